"""The drawings of docs/pages/internals/architecture.md, made from the code itself."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from penstock._call import lifecycle
from penstock._call.lifecycle import TRANSITIONS, Event, StreamState
from tests.support.page_blocks import table

__all__ = ["ARCHITECTURE", "ROOT", "blocks"]

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "docs" / "pages" / "internals" / "architecture.md"


def blocks() -> Iterator[tuple[str, str]]:
    """The drawings with their names."""
    yield "life", _life()
    yield "transitions", _transitions()


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
