"""What the search index gets besides what is on the pages."""

from __future__ import annotations

import pytest

from tests.tools.search_words import with_words

PAGE = {"location": "topics/retries/", "level": 1, "title": "Retries", "text": "<p>A failure</p>",
        "path": ["Topics", "Retries"], "tags": []}  # fmt: skip
SECTION = {**PAGE, "location": "topics/retries/#how", "level": 2, "title": "How"}


def test_a_word_is_an_entry_before_all_others() -> None:
    first, *others = with_words([SECTION, PAGE], {"back-off": "topics/retries"})
    assert others == [SECTION, PAGE]
    assert (first["title"], first["location"]) == ("Back-off", "topics/retries/")
    assert first["path"] == ["Back-off", "Topics", "Retries"]
    assert first["text"] == "<p>Back-off: Retries.</p> <p>A failure</p>"


def test_a_word_must_lead_to_a_page() -> None:
    with pytest.raises(KeyError):
        with_words([PAGE], {"retry": "topics/retry"})
