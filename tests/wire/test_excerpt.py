from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.excerpt import excerpt, one_line, words


def test_blanks_are_joined_and_controls_replaced() -> None:
    assert one_line(" a\r\n\tb\x00\x1b[31m\u2028c ") == "a b\ufffd\ufffd[31m c"


def test_the_bound() -> None:
    assert one_line("x" * 200) == "x" * 200
    assert one_line("x" * 201) == "x" * 197 + "..."
    assert one_line("abcdefgh", 6) == "abc..."


def test_bytes() -> None:
    assert excerpt(b"a\xff\nb") == "a\ufffd b"
    assert excerpt(b"\xf0\x9f\x98\x80" * 300, 10) == "\U0001f600" * 7 + "..."


@given(st.text(st.characters(exclude_categories=[])), st.integers(4, 50))
def test_always_one_short_line_that_can_be_printed(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    line.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" plain text\n", "plain text"),
        ("<html><title> 502 Bad Gateway </title><h1>x</h1>", "502 Bad Gateway"),
        ("<html><head><title></title></head><p>It&#39;s <b>down</b></p>", "It's  down"),
        ("<style>a{}</style><script>b<c</script >ok", "ok"),
        ("<script>never closed", ""),
        ('<?xml version="1.0"?><Error><Message>No</Message></Error>', "No"),
        ("", ""),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert words(text) == expected


@pytest.mark.parametrize("part", ["<script>", "<title>", "<", "<!--", "</", "&", "<title"])
def test_words_of_a_hostile_page_cost_linear_time(part: str) -> None:
    start = time.process_time()
    words("<" + part * 200_000)
    assert time.process_time() - start < 2
