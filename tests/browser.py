"""A real browser for tests: Chromium by playwright, where there is one. `python tests/browser.py` says which."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
FLAGS = ["--headless=shell", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
"""For containers: no right to make a sandbox, little /dev/shm. Nothing but the tests' own pages is opened."""
HOW = "set LADD_CHROMIUM to one, or see CONTRIBUTING.md"


@contextmanager
def open_page() -> Iterator[Page]:
    """Yield an empty page of a browser that cannot reach the network; skip the test where no browser is.

    The browser is the one $LADD_CHROMIUM names, which has to work, else one on the path, else the one that `playwright
    install chromium` fetched.
    """
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    named = os.environ.get("LADD_CHROMIUM")
    path = named or next(filter(None, map(shutil.which, NAMES)), None)
    with sync.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=60_000)
        except sync.Error as error:
            if named:
                raise
            pytest.skip(f"no Chromium that starts: {HOW} ({str(error).splitlines()[0]})")
        with browser:
            context = browser.new_context(offline=True)
            yield context.new_page()


if __name__ == "__main__":
    with open_page() as page:
        assert page.context.browser is not None
        sys.stdout.write(f"Chromium {page.context.browser.version}, {page.evaluate('1 + 1') and 'runs pages'}\n")
