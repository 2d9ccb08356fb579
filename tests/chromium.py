"""A real browser for tests of pages: Debian's Chromium, with no network of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright
from playwright.sync_api import Page as Tab

# The last ones keep the browser itself from asking the network for anything.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs Debian's package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def strict_tab(browser: Browser, url: str, height: int) -> Iterator[Tab]:
    """The page, which may complain of nothing and ask for nothing but itself, whatever is done."""
    with browser.new_context(viewport={"width": 1280, "height": height}) as context:
        tab = context.new_page()
        said: list[str] = []
        asked: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.add_init_script(
            "window.violations = [];"
            "addEventListener('securitypolicyviolation', (e) => violations.push(e.blockedURI))"
        )
        tab.goto(url)
        yield tab
        assert tab.evaluate("violations") == []
        assert said == []
        assert {one.split("#")[0] for one in asked if not one.startswith("data:image/")} == {url}
