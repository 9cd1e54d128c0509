"""Write `llms.txt` into the built documentation: its pages, for programs that read it.

    python -m tests.tools.llms_txt

The form is that of llmstxt.org: a title, a summary, and a list of links for each section.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = ["llms_txt", "navigation", "pages"]

DOCS = Path(__file__).parents[2] / "docs"

SUMMARY = """\
> A Python client for OpenAI-compatible chat completions, built for streaming: cancellable
> streams, fan-out of many completions into bounded channels, and no resume after the first byte.
> asyncio, uvloop and trio; Python 3.11 or newer.
"""


def navigation() -> list[Any]:
    """Return the navigation of `docs/zensical.toml`."""
    settings = tomllib.loads((DOCS / "zensical.toml").read_text(encoding="utf-8"))
    entries: list[Any] = settings["project"]["nav"]
    return entries


def pages(entries: list[Any]) -> Iterator[tuple[str, str | None]]:
    """Yield the title and the address of each page, in order; a section has no address."""
    for entry in entries:
        ((title, target),) = entry.items()
        if isinstance(target, str):
            path = PurePosixPath(target)
            address = path.parent if path.name == "index.md" else path.with_suffix("")
            yield title, "" if address == PurePosixPath() else f"{address}/"
        else:
            yield title, None
            yield from pages(target)


def llms_txt(entries: list[Any]) -> str:
    """Return the text for a navigation in the form of `zensical.toml`."""
    lines = ["# penstock", "", SUMMARY]
    for title, address in pages(entries):
        lines += ["", f"## {title}", ""] if address is None else [f"- [{title}]({address})"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (DOCS / "site" / "llms.txt").write_text(llms_txt(navigation()), encoding="utf-8")
