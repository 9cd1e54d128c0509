"""The built site on loopback, and Chromium to look at it with."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SITE = Path(__file__).parents[2] / "docs" / "site"

collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]  # nox --session site

Open: TypeAlias = "Callable[..., Page]"


class Files(SimpleHTTPRequestHandler):
    """Serves the site without a line of log for each file."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where the site is served."""
    assert (SITE / "llms.txt").exists(), "build the documentation first: nox --session docs"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium as the system has it, or as PENSTOCK_CHROMIUM names it."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("PENSTOCK_CHROMIUM")
    for name in ("chromium", "chromium-browser", "google-chrome"):
        chromium = chromium or shutil.which(name)
    assert chromium, "there is no Chromium here: install the system's, or set PENSTOCK_CHROMIUM"
    with sync_playwright() as playwright:
        # Its own sandbox cannot be set up for root, as in a container.
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Open]:
    """Open a page: `visit("topics/errors/", width=390, scheme="dark")`.

    A request to another host, a failed one, and an error of a script fail the test.
    """
    contexts = []
    wrong: list[str] = []

    def check(url: str, *, ours: str = "", status: int = 200) -> None:
        if not url.startswith((ours, "blob:", "data:")) or status >= 400:
            wrong.append(f"{status} {url}")

    def visit(path: str, *, width: int = 1366, scheme: Any = "light") -> Page:
        viewport = {"width": width, "height": 844 if width < 800 else 768}
        options: dict[str, Any] = {"viewport": viewport, "color_scheme": scheme}
        context = browser.new_context(**options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"{path}: {error}"))
        page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
        page.on("request", lambda request: check(request.url, ours=address))
        page.on("response", lambda answer: check(answer.url, status=answer.status))
        page.goto(address + path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong
