"""Percent-encoding does what `urllib.parse` does."""

from __future__ import annotations

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.percent import quoted, unquoted, unquoted_plus

ESCAPES = st.integers(0, 255).map("%{:02x}".format) | st.integers(0, 255).map("%{:02X}".format)
ENCODED = st.lists(ESCAPES | st.sampled_from("%+ aZ09-._~é\u20ac\U0001f600")).map("".join)
SAFE = ["", "/?&=%:@!$'()*+,;~-._"]


@pytest.mark.parametrize("safe", SAFE)
@given(st.text())
def test_quoted(safe: str, text: str) -> None:
    try:
        expected = urllib.parse.quote(text, safe=safe)
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            quoted(text, safe)
    else:
        assert quoted(text, safe) == expected


@given(ENCODED | st.text())
def test_unquoted(text: str) -> None:
    assert unquoted(text) == urllib.parse.unquote(text)
    assert unquoted_plus(text) == urllib.parse.unquote_plus(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_there_and_back(text: str) -> None:
    assert unquoted(quoted(text)) == text
