"""Runs the Python examples of the documentation against a scripted server on loopback.

The examples stay as a stranger would copy them: they find the server through the environment.
Code that a page hides (`invisible-code-block`) chooses the server's next answer and checks
what the example before it printed. Examples of a page build on each other, so a page is one
test: they run in one process and in their order, however pytest distributes tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.examples import run_page

PAGES = Path(__file__).with_name("pages")
FRAMEWORKS = PAGES / "frameworks"  # they need more: tests/frameworks/test_pages.py runs them


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Page | None:
    if file_path.is_relative_to(FRAMEWORKS):
        return None
    if file_path.suffix == ".md" and file_path.is_relative_to(PAGES):
        return Page.from_parent(parent, path=file_path)
    return None


class Page(pytest.File):
    """A page, with one test if it has any example."""

    def collect(self) -> Iterator[PageTest]:
        if "```python" in self.path.read_text(encoding="utf-8"):
            yield PageTest.from_parent(self, name="examples")


class PageTest(pytest.Item):
    """All examples of a page."""

    def runtest(self) -> None:
        run_page(self.path)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"the examples of {self.path.name}"
