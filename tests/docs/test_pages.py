"""What a reader needs to find a page: navigation, titles, and the words that people type."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

import penstock
from tests.tools.llms_txt import llms_txt, navigation, pages
from tests.tools.search_words import WORDS

from .drawings import ROOT

PAGES = ROOT / "docs" / "pages"
TEXTS = {path.relative_to(PAGES).as_posix(): path.read_text() for path in PAGES.rglob("*.md")}
HEADINGS = [line for text in TEXTS.values() for line in re.findall(r"^#+ .*$", text, re.M)]


def in_navigation(entries: list[Any]) -> list[str]:
    """The pages of a navigation, in its order."""
    found: list[str] = []
    for entry in entries:
        ((_, value),) = entry.items()
        found += [value] if isinstance(value, str) else in_navigation(value)
    return found


def test_every_page_is_in_the_navigation_once() -> None:
    settings = tomllib.loads((ROOT / "docs" / "zensical.toml").read_text())
    assert sorted(in_navigation(settings["project"]["nav"])) == sorted(TEXTS)


@pytest.mark.parametrize("word", [
    "retries", "back-off", "timeout", "deadline", "cancel", "deadlock", "backpressure", "error",
    "rate limit", "log", "proxy", "tool call", "structured output", "migrat", "azure", "bedrock",
    "usage", "hedging", "blocking", "ctrl-c", "progress", "first byte", "testing", "glossary",
])  # fmt: skip
def test_a_heading_has_the_word(word: str) -> None:
    assert any(word in heading.lower() for heading in HEADINGS)


@pytest.mark.parametrize(
    "word", ["p99", "429", "retry-after", "asyncio.timeout", "fork", "no_proxy"]
)
def test_some_page_has_the_word(word: str) -> None:
    assert any(word in text.lower() for text in TEXTS.values())


def test_llms_txt_names_every_page() -> None:
    links = re.findall(r"^- \[.*\]\((.*)\)$", llms_txt(navigation()), re.M)
    assert len(links) == len(set(links)) == len(TEXTS)
    assert {"", "tutorial/", "frameworks/", "frameworks/llama-index/"} <= set(links)


def test_every_word_of_the_search_leads_to_a_page() -> None:
    addresses = {address for _, address in pages(navigation())}
    assert {f"{page}/" if page else "" for page in WORDS.values()} <= addresses


def test_the_site_names_the_version() -> None:
    settings = tomllib.loads((ROOT / "docs" / "zensical.toml").read_text())
    assert settings["project"]["copyright"].startswith(f"penstock {penstock.__version__} ")


@pytest.mark.parametrize("page", sorted(TEXTS))
def test_no_page_installs_from_an_index(page: str) -> None:
    """The name is not on one yet, and may become another project's."""
    assert not re.findall(r"pip install [^\n#]*[ \"]penstock\b", TEXTS[page])


def test_every_variable_of_the_environment_is_on_its_page() -> None:
    text = TEXTS["reference/environment.md"]
    for path in (ROOT / "src").rglob("*.py"):
        for name in re.findall(r'environ\.get\("([A-Z_]{5,})"', path.read_text()):
            if name != "_ARGCOMPLETE":
                assert f"`{name}`" in text, f"{name}, read in {path.name}"
