"""The examples of the pages on frameworks, where what they import is installed."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from penstock.testing import no_leaks
from tests.frameworks.drivers import installed
from tests.support.examples import run_page

PAGES = Path(__file__).parents[2] / "docs" / "pages" / "frameworks"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IMPORTED = re.compile(r"^(?:from|import) ([a-z_0-9]+)", re.MULTILINE)


def runs_here(page: Path) -> bool:
    """Whether the page has examples, and every module is installed that they import."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    return bool(blocks) and all(
        find_spec(module) for block in blocks for module in IMPORTED.findall(block)
    )


RUN_HERE = [page for page in sorted(PAGES.glob("*.md")) if runs_here(page)]


def test_every_framework_here_has_a_page_that_runs() -> None:
    stems = {page.stem for page in RUN_HERE}
    own_page = {page.stem for page in PAGES.glob("*.md")} & set(installed())
    assert own_page <= stems
    assert own_page


@pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: page.stem)
def test_the_examples_of_a_page(page: Path) -> None:
    with no_leaks():
        run_page(page)
