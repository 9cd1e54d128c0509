"""The drawings of docs/pages/internals/architecture.md, made from the code itself."""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

from penstock._call import lifecycle
from penstock._call.lifecycle import TRANSITIONS, Event, StreamState
from tests.support.page_blocks import table

__all__ = ["ARCHITECTURE", "blocks", "floors"]

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "penstock"
ARCHITECTURE = ROOT / "docs" / "pages" / "internals" / "architecture.md"


def blocks() -> Iterator[tuple[str, str]]:
    """The drawings with their names."""
    yield "floors", _floors()
    yield "life", _life()
    yield "transitions", _transitions()


def floors() -> list[list[str]]:
    """The names on each floor, the lowest first, as the import contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (
        each for each in settings["tool"]["importlinter"]["contracts"] if each["type"] == "layers"
    )
    return [re.findall(r"\w+", layer) for layer in reversed(contract["layers"])]


def _floors() -> str:
    numbered = list(enumerate(floors(), 1))
    rows = [
        [str(number) if first else "", f"`{name}`", _summary(name)]
        for number, names in reversed(numbered)
        for first, name in zip([True] + [False] * len(names), names, strict=False)
    ]
    return table([["floor", "package or module", "what it is"], *rows])


def _summary(name: str) -> str:
    """The first line of its docstring."""
    path = SOURCE / f"{name}.py"
    if not path.is_file():
        path = SOURCE / name / "__init__.py"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, f"{path} says nothing about itself"
    return docstring.splitlines()[0]


def _life() -> str:
    """The drawing in the docstring of `lifecycle`: its indented lines."""
    docstring = lifecycle.__doc__
    assert docstring
    drawn = re.search(r"(?:^ {4}.*\n)+", docstring, re.MULTILINE)
    assert drawn
    lines = textwrap.dedent(drawn[0]).strip("\n")
    return f"```text\n{lines}\n```"


def _transitions() -> str:
    head = ["state", *(event.name for event in Event)]
    rows = [
        [state.value, *(TRANSITIONS.get((state, event), "") for event in Event)]
        for state in StreamState
    ]
    return table([head, *rows])
