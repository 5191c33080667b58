"""Python where every process refuses and notes whatever reaches for the network."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What would silence MLflow's and others' messages home, were they sent.
UNSET = (
    "CI",
    "DO_NOT_TRACK",
    "MLFLOW_DISABLE_TELEMETRY",
    "MLFLOW_TRACKING_URI",
    "PYTEST_CURRENT_TEST",
    "PYTEST_VERSION",
)
GUARD = """
import os, socket, sys

def _write(name, text):
    with open(os.path.join(os.environ["GUARD_LOG"], name), "a") as file:
        file.write(text + "\\n")

def _refuse(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        own = event == "socket.bind" and args[1][0] in ("127.0.0.1", "::1")  # urllib3 looks so whether there is IPv6
        if own or args[0].family == socket.AF_UNIX:
            return
    elif event not in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "urllib.Request"):
        return
    _write("tried", f"{os.getpid()} {sys.argv[:1]} {event} {args[1:] or args}")
    raise OSError("the network is forbidden")

sys.addaudithook(_refuse)
_write("guarded", str(os.getpid()))
"""


def run_python(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python as a user has it who silenced nothing."""
    kept = {key: value for key, value in os.environ.items() if key not in UNSET}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT, env=kept | {"PYTHONPATH": str(ROOT)} | environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def run_guarded(notes: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The same under guard; `notes` is a folder where "guarded" names the processes and "tried" what was refused."""
    (notes / "guard").mkdir()
    (notes / "guard" / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    path = os.pathsep.join([str(notes / "guard"), str(ROOT)])
    return run_python(*arguments, PYTHONPATH=path, GUARD_LOG=str(notes))
