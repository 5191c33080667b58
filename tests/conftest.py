"""Settings of the whole suite."""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Property tests draw the same examples in every run, so that no run fails by chance; `--hypothesis-profile fresh` draws
# others. A machine that is busy is no failure.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("fresh", deadline=None)
settings.load_profile("same")

# Whole runs, browsers, servers, pictures and LaTeX; and the checker of laws, which tries many mistakes.
SLOW = (
    "acceptance/",
    "browser/",
    "reliability/",
    "laws/test_check",
    "unit/test_figures",
    "unit/test_report",
    "unit/test_tables_latex",
    "unit/test_tracking",
)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and let one worker have all tests of a file, so that it makes their set-up once.

    The laws have no set-up that takes time: one by one they fill up both workers at the end.
    """
    for item in items:
        file = item.path.relative_to(Path(__file__).parent).as_posix()
        if file.startswith(SLOW):
            item.add_marker("slow")
        if not file.startswith("laws/") and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session", autouse=True)
def digits_are_read_once() -> Iterator[None]:
    """mnist5k is a sixth of a second of text for every cell; here once a process. Nobody writes to it."""
    from bench.data import sets  # torch, which the process that hands out the tests does without

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sets, "read_mnist5k", functools.cache(sets.read_mnist5k))
        yield
