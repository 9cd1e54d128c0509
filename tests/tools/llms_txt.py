"""Write `llms.txt` into the built documentation: its pages, for programs that read it.

    python -m tests.tools.llms_txt

The form is that of llmstxt.org: a title, a summary, and a list of links for each section.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

__all__ = ["llms_txt"]

DOCS = Path(__file__).parents[2] / "docs"

SUMMARY = """\
> A Python client for OpenAI-compatible chat completions, built for streaming: cancellable
> streams, fan-out of many completions into bounded channels, and no resume after the first byte.
> asyncio, uvloop and trio; Python 3.11 or newer.
"""


def llms_txt(navigation: list[Any]) -> str:
    """Return the text for a navigation in the form of `zensical.toml`."""
    lines = ["# penstock", "", SUMMARY]

    def add(entries: list[Any]) -> None:
        for entry in entries:
            ((title, target),) = entry.items()
            if isinstance(target, str):
                lines.append(f"- [{title}]({target.removesuffix('.md').removesuffix('index')})")
            else:
                lines.extend(["", f"## {title}", ""])
                add(target)

    add(navigation)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    settings = tomllib.loads((DOCS / "zensical.toml").read_text(encoding="utf-8"))
    text = llms_txt(settings["project"]["nav"])
    (DOCS / "site" / "llms.txt").write_text(text, encoding="utf-8")
