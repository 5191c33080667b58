"""The grids that come with the package, a TOML file each."""

from pathlib import Path

FOLDER = Path(__file__).parent


def shipped_grids() -> list[str]:
    """Their names, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))
