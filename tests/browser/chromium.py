"""Where a Chromium for the browser tests is, and how it is started."""

import os
import shutil
from pathlib import Path

from playwright.sync_api import Playwright

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
HOW_TO_INSTALL = (
    "the browser tests need Chromium: run `python -m tests.browser.install`, "
    "or `playwright install chromium`, or `apt-get install chromium`, or set CHROMIUM to its path"
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")


class NoBrowser(Exception):
    """No Chromium was found; the message says how to install one."""


def find(playwright: Playwright) -> str:
    """Path of the program: $CHROMIUM, else the first of `_NAMES` on the PATH, else the one playwright installed.

    Raises:
        NoBrowser: if there is none.
    """
    if chosen := os.environ.get("CHROMIUM"):
        if shutil.which(chosen) is None:
            raise NoBrowser(f"CHROMIUM={chosen} is no program; {HOW_TO_INSTALL}")
        return chosen
    found = next((path for name in _NAMES if (path := shutil.which(name))), playwright.chromium.executable_path)
    if not Path(found).exists():
        raise NoBrowser(HOW_TO_INSTALL)
    return found
