"""Blocks in a page of the documentation that a program writes, and leaves the rest alone.

<!-- bench: ratios -->
what `tests.bench` has measured
<!-- bench: end -->
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["renew", "table"]


def renew(page: Path, program: str, blocks: Iterable[tuple[str, str]]) -> None:
    """Replace these blocks of the program, by name; ValueError where there is none of a name."""
    text = page.read_text(encoding="utf-8")
    for name, block in blocks:
        mark = re.compile(rf"(<!-- {program}: {name} -->\n).*?(<!-- {program}: end -->)", re.DOTALL)
        found = mark.search(text)
        if found is None:
            raise ValueError(f"{page} has no block {name}")
        text = f"{text[: found.start()]}{found[1]}\n{block}\n\n{found[2]}{text[found.end() :]}"
    page.write_text(text, encoding="utf-8")


def table(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a table, the first row its head."""
    head, *body = lines
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body))
