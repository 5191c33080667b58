"""Files that are written whole or not at all, and that show later damage.

JSON records carry a seal, the SHA-256 of their content: a flipped bit would otherwise be read as another number.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

SEAL = "sha256"
QUARANTINE = ".quarantine"
STORAGE_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
NO_FILE = (IsADirectoryError, NotADirectoryError)  # other errors may pass, and leave the file as it is


class Damaged(ValueError):
    """The file is not what was written; the message says how, without the file's name."""


def write_bytes(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file atomically: a temporary one beside it, flushed to disk, then renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(name, 0o644)
        if path.is_dir() and not path.is_symlink():  # a file cannot replace it
            quarantine(path, path.parent / QUARANTINE, "a folder stands in its place")
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any], sync: bool = True) -> None:
    """Write a sealed JSON object, whole or not at all. NaN and infinity become null."""
    content = plain({key: item for key, item in value.items() if key != SEAL})
    text = json.dumps(content | {SEAL: _seal(content)}, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode(errors="surrogatepass"), sync)  # names of files need not be UTF-8


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a file of `write_json`, None if there is no such file.

    Raises:
        Damaged: if it was damaged since.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (*NO_FILE, ValueError, RecursionError) as error:  # no text, or no JSON
        raise Damaged(f"{type(error).__name__}: {error}") from error
    if not isinstance(content, dict) or SEAL not in content:
        raise Damaged("it has no checksum")
    if content.pop(SEAL) != _seal(content):
        raise Damaged("its checksum is that of other content")
    return content


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file that grows by lines; a torn last line is left out, [] if there is no such file.

    Raises:
        Damaged: if a line is no JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return [dict(json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error


def _seal(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def file_hash(path: Path) -> str | None:
    """SHA-256 of a file's bytes, None if there is no such file.

    Raises:
        Damaged: if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except NO_FILE as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def quarantine(path: Path, into: Path, why: str) -> None:
    """Move a damaged file into the folder `into`, under a name that is free, and warn."""
    into.mkdir(parents=True, exist_ok=True)
    names = (f"{path.name}.{k}" if k else path.name for k in range(10**6))
    target = next(into / name for name in names if not (into / name).exists())
    shutil.move(path, target)
    warnings.warn(f"{path} is damaged ({why}); it is kept as {target}, and made anew", stacklevel=3)


def plain(value: Any) -> Any:
    """`value` with dataclasses as dicts, tuples as lists and non-finite numbers as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
