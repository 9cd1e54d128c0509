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
from sybil import Sybil

from tests.support.examples import Examples, python_blocks

PAGES = Path(__file__).with_name("pages")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Page | None:
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
        document = Sybil(parsers=[python_blocks]).parse(self.path)
        examples = Examples()
        examples.setup(document.namespace)
        try:
            for example in document.examples():
                try:
                    example.evaluate()
                except BaseException as error:
                    error.add_note(f"in the example at {self.path}:{example.line}")
                    raise
        finally:
            examples.teardown(document.namespace)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"the examples of {self.path.name}"
