"""The pages on internals say what is in the repository: drawings, paths, tests, links."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.evidence.promises import PROMISES, modules_of
from tests.support.page_blocks import renew

from .drawings import ARCHITECTURE, ROOT, blocks

SOURCE = ROOT / "src" / "penstock"

INTERNALS = sorted((ROOT / "docs" / "pages" / "internals").glob("*.md"))
PAGES = [*INTERNALS, ROOT / "CONTRIBUTING.md"]


def test_the_drawings_are_those_of_the_code(tmp_path: Path) -> None:
    page = Path(shutil.copy(ARCHITECTURE, tmp_path))
    renew(page, "drawn", blocks())
    assert page.read_text() == ARCHITECTURE.read_text(), "write them: python -m tests.docs"


def floors() -> list[set[str]]:
    """The names on each floor, the highest first, as the import contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    return [set(re.findall(r"\w+", layer)) for layer in layers]


def test_the_floors_are_those_of_the_import_contract() -> None:
    drawn: list[set[str]] = []
    for number, name in re.findall(r"^\| (\d*) *\| `(\w+)` \|", ARCHITECTURE.read_text(), re.M):
        if number:
            assert int(number) == len(floors()) - len(drawn)
            drawn.append(set())
        drawn[-1].add(name)
    assert drawn == floors()


def test_every_package_and_module_has_a_floor() -> None:
    there = {path.stem for path in SOURCE.glob("*.py")}
    there |= {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert set().union(*floors()) == there - {"__init__"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_is_there(page: Path) -> None:
    paths = re.findall(r"`([\w.-]+/[\w./-]+)`", page.read_text())
    missing = [path for path in paths if not any((at / path).exists() for at in (ROOT, SOURCE))]
    assert not set(missing) - {"docs/site"}, "docs/site is built"


def test_each_promise_names_all_its_tests() -> None:
    page = ROOT / "docs" / "pages" / "internals" / "promises.md"
    sections = re.split(r"^## ", page.read_text(), flags=re.M)[1:]
    named = {
        int(number[1]) if (number := re.match(r"(\d+)\. ", section)) else 0: {
            ROOT / path for path in re.findall(r"`(tests/\S+\.py)`", section)
        }
        for section in sections
    }
    assert named == {number: set(modules_of(number)) for number in PROMISES}


def test_there_are_twelve_rules_of_the_wire() -> None:
    page = ROOT / "docs" / "pages" / "internals" / "wire.md"
    rules = re.findall(r"^## Rule (\d+): ", page.read_text(), re.M)
    assert rules == [str(number) for number in range(1, 13)]


def test_every_nox_session_is_in_the_table_of_commands() -> None:
    sessions = re.findall(
        r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE
    )
    rows = re.findall(r"^\| (`.*?`) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sessions
    assert set(sessions) - set(named) == set()


def test_the_source_cites_what_a_reader_finds() -> None:
    """A comment names a page of the repository, never a document that is elsewhere."""
    elsewhere = re.compile(r"\b(DESIGN|HOUSE|FIELD|PIPELINES)\b|section \d of the design")
    here = Path(__file__)
    files = [
        path
        for folder in ("src", "tests", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".toml") and path != here and "site" not in path.parts
    ]
    citing = [str(path.relative_to(ROOT)) for path in files if elsewhere.search(path.read_text())]
    assert not citing
