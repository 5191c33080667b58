"""Brings what the browser and LaTeX tests need to a fresh machine; does nothing where it is: python -m tests.browser.install."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from playwright.sync_api import sync_playwright

from tests.browser.chromium import HOW_TO_INSTALL, NoBrowser, find

STYLES = ("booktabs.sty", "siunitx.sty")
LATEX = ("texlive-latex-base", "texlive-latex-extra", "texlive-science")
_LIMIT = 900  # seconds that a download may take


def main() -> int:
    """0 where all is there in the end; else 1, with a message a missing thing."""
    missing = [told for told in (_chromium(), _pdflatex()) if told]
    for told in missing:
        print(told, file=sys.stderr)
    return 1 if missing else 0


def has_chromium() -> bool:
    try:
        with sync_playwright() as playwright:
            find(playwright)
    except NoBrowser:
        return False
    return True


def _chromium() -> str | None:
    """None where there is a browser in the end, else what to do."""
    if has_chromium():
        return None
    if not (_run(sys.executable, "-m", "playwright", "install", "chromium") and has_chromium()):
        _apt(["chromium"])
    return None if has_chromium() else HOW_TO_INSTALL


def _pdflatex() -> str | None:
    if not has_latex():
        _apt(LATEX)
    if has_latex():
        return None
    styles = ", ".join(STYLES)
    return f"the tests of LaTeX tables need pdflatex with {styles}: install {', '.join(LATEX)} (Debian's names)"


def has_latex() -> bool:
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return all(subprocess.run(["kpsewhich", style], capture_output=True).returncode == 0 for style in STYLES)


def _apt(packages: Sequence[str]) -> bool:
    """Whether apt-get installed them; only tried as root where there is an apt-get."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    return _run("apt-get", "update") and _run("apt-get", "install", "-y", "--no-install-recommends", *packages)


def _run(*command: str) -> bool:
    """Whether the command ended well within `_LIMIT`."""
    print("+", *command, flush=True)
    try:
        done = subprocess.run(command, timeout=_LIMIT, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
