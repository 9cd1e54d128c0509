"""Order the search index of the built documentation, and add `docs/search-words.toml` to it.

    python -m tests.tools.search_words

The search ranks a title that begins with what was typed above all else. So each word becomes an
entry with the word as its title, which leads to the page. What the search ranks alike it leaves in
the order of the index; that of the navigation has tutorials before details.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from .llms_txt import navigation, pages

__all__ = ["WORDS", "with_words"]

DOCS = Path(__file__).parents[2] / "docs"
WORDS: dict[str, str] = tomllib.loads((DOCS / "search-words.toml").read_text(encoding="utf-8"))
# The reference has them behind the names of attributes. They say nothing in a list of results.
LABEL = re.compile(r" *<small><code>(class|instance|module)-attribute</code></small>")


def page_of(item: dict[str, Any]) -> str:
    """Return the address of the page that an item of the index is on."""
    location: str = item["location"]
    return location.partition("#")[0].rstrip("/")


def with_words(items: list[dict[str, Any]], words: dict[str, str]) -> list[dict[str, Any]]:
    """Return the index's items with an entry for each word before them.

    A page that does not exist is a KeyError.
    """
    by_page = {page_of(item): item for item in items if item["level"] == 1}
    entries: list[dict[str, Any]] = []
    for word, location in words.items():
        page = by_page[location]
        name = word[0].upper() + word[1:]
        # Of titles that begin with the word, the one whose path and text have it, too, comes first.
        text = f"<p>{name}: {page['title']}.</p> {page['text']}"
        path = [name, *page["path"]]
        entries.append({**page, "title": name, "text": text, "path": path})
    return entries + items


if __name__ == "__main__":
    path = DOCS / "site" / "search.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    order = [page.rstrip("/") for _, page in pages(navigation()) if page is not None]
    index["items"].sort(key=lambda item: order.index(page_of(item)))
    for item in index["items"]:
        item["title"] = LABEL.sub("", item["title"])
    index["items"] = with_words(index["items"], WORDS)
    path.write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")
