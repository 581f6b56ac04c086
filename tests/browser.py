"""A real browser for tests: Chromium by playwright, where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
FLAGS = ["--headless=shell", "--no-sandbox", "--no-zygote", "--single-process", "--disable-gpu"]
"""These also start a Chromium cut down for containers; nothing but the tests' own pages is opened."""


@contextmanager
def open_page() -> Iterator[Page]:
    """Yield an empty page of a browser that cannot reach the network; skip the test where no browser is.

    The browser is the one $LADD_CHROMIUM names, else one on the path, else the one `playwright install
    chromium` fetched.
    """
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    named = os.environ.get("LADD_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=named, args=FLAGS, timeout=20_000)
        except sync.Error as error:
            if named:
                raise
            pytest.skip(f"no Chromium: set LADD_CHROMIUM to one, or run playwright install chromium ({error})")
        with browser:
            context = browser.new_context(offline=True)
            yield context.new_page()
