"""A real Chromium for tests of pages: what it draws, what it complains of, what it asks for."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"
)


class Opened:
    """A page with what it said and asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def draw_all(self) -> int:
        """Scroll to every chart, wait until all are drawn, and return how many there are."""
        charts = self.page.locator(".chart")
        for n in range(charts.count()):
            charts.nth(n).scroll_into_view_if_needed()
        self.until("[...document.querySelectorAll('.chart')].every((one) => one.dataset.drawn)")
        return int(charts.count())

    def until(self, condition: str) -> None:
        """Wait until an expression is true; the page's policy forbids Playwright's own way of asking."""
        for _ in range(6000):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never came true: {condition}")


@contextmanager
def opened(file: Path, *, width: int = 1200, scheme: str = "light") -> Iterator[Opened]:
    """Open a file."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only where there is a browser

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        found = Opened(page)
        page.goto(file.as_uri())
        yield found
        browser.close()
