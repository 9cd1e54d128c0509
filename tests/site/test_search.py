"""Whoever types a common word gets the right page first."""

from __future__ import annotations

import pytest

from tests.tools.search_words import WORDS

from .conftest import Open

# Keywords that the index does not name, but that titles begin with.
FOUND_BY_TITLE = {
    "tutorial": "tutorial", "troubleshooting": "topics/troubleshooting", "speed": "topics/speed",
    "AsyncClient": "reference/client", "fan_out": "reference/fan-out",
    "Limiter": "reference/fan-out",
    "RateLimitError": "reference/errors", "no_leaks": "reference/testing",
}  # fmt: skip


FIRST = "box => box.getRootNode().querySelector('[role=option]')?.href ?? ''"
IS_FIRST = f"([box, start]) => ({FIRST})(box).startsWith(start)"


def test_a_word_brings_its_page_first(visit: Open, address: str) -> None:
    from playwright.sync_api import TimeoutError

    page = visit("")
    page.locator(".md-search__button").click()
    field = page.get_by_role("combobox", name="Search")
    box = field.element_handle()
    wrong: dict[str, str] = {}
    for word, location in (WORDS | FOUND_BY_TITLE).items():
        field.fill(word)
        start = f"{address}{location}{'/' if location else ''}?h="
        try:
            page.wait_for_function(IS_FIRST, arg=[box, start], timeout=3000)
        except TimeoutError:
            wrong[word] = page.evaluate(FIRST, box)
    assert not wrong


@pytest.mark.parametrize("width", [1366, 390])
def test_a_result_leads_to_its_page(visit: Open, width: int) -> None:
    page = visit("topics/errors/", width=width)
    page.locator(".md-header label[for=__search], .md-search__button").locator(
        "visible=true"
    ).click()
    page.get_by_role("combobox", name="Search").fill("retry")
    page.get_by_role("option", name="Retry", exact=True).click()
    page.wait_for_url("**/topics/retries/**")
    assert page.locator("h1").inner_text().startswith("Retries and back-off")
