"""The browser of these tests is shut in, and does not overlook what goes wrong."""

import pytest

pytestmark = pytest.mark.xdist_group("browser")


def test_a_page_that_errs_asks_outside_and_alerts_is_noticed(open_page, troubles, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text("<img src='http://example.org/a.png'><script>alert('hello'); throw new Error('broken')</script>")
    open_page(path)
    assert troubles.outside == ["http://example.org/a.png"]
    assert troubles.dialogs == ["hello"]
    assert any("broken" in error for error in troubles.errors)
    assert not troubles.none()
