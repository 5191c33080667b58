"""A headless Chromium that reaches nothing but files and this machine, and remembers what went wrong."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, Route, expect, sync_playwright

from tests.browser.chromium import ARGUMENTS, NoBrowser, find

LOCAL = ("file://", "http://127.0.0.1:", "data:", "blob:", "about:")
WAIT = 60_000  # milliseconds for any one thing to happen: a busy machine must not fail a test
expect.set_options(timeout=WAIT)


@dataclass
class Troubles:
    """What a page must not have: console errors and uncaught exceptions, requests to other hosts, dialogs."""

    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def none(self) -> bool:
        return not (self.errors or self.outside or self.dialogs)


# One for the folder, not for the session: while it lives an event loop runs, which other tests must not see.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of this folder."""
    with sync_playwright() as playwright:
        try:
            path = find(playwright)
        except NoBrowser as missing:
            pytest.fail(str(missing), pytrace=False)
        with playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS)) as browser:
            yield browser


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


@pytest.fixture
def open_page(chromium: Browser, troubles: Troubles) -> Iterator[Callable[..., Page]]:
    """`open_page(path or address, width=1280, height=900, **options of the browser's context) -> Page`.

    All that goes wrong in the page is kept in `troubles`.
    """
    opened: list[Page] = []

    def open_one(target: Path | str, **options: Any) -> Page:
        opened.append(open_in(chromium, troubles, target, **options))
        return opened[-1]

    yield open_one
    for page in opened:
        page.context.close()


def open_in(
    browser: Browser, troubles: Troubles, target: Path | str, width: int = 1280, height: int = 900, **options: Any
) -> Page:
    """A page in a context of its own, which the caller closes; what goes wrong in it is kept in `troubles`."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(WAIT)
    context.route("**/*", lambda route: _only_local(route, troubles))
    page = context.new_page()
    watch(page, troubles)
    page.goto(target.as_uri() if isinstance(target, Path) else target)
    return page


def watch(page: Page, troubles: Troubles) -> None:
    """Keep the page's errors and dialogs in `troubles`."""

    def close(dialog: Dialog) -> None:
        troubles.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("console", lambda message: troubles.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.errors.append(str(error)))
    page.on("dialog", close)


def _only_local(route: Route, troubles: Troubles) -> None:
    if route.request.url.startswith(LOCAL):
        route.continue_()
    else:
        troubles.outside.append(route.request.url)
        route.abort()
