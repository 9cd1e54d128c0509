"""The usage that a body or an event reports, whatever the interface."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.usage import usage_in
from penstock.types import Usage


def counts(usage: Usage | None) -> tuple[int, int, int] | None:
    if usage is None:
        return None
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens


CHAT = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"choices": [], "usage": CHAT}, (3, 4, 7)),
        ({"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}, (8, 0, 8)),
        ({"usage": {"input_tokens": 5, "output_tokens": 6, "total_tokens": 11}}, (5, 6, 11)),
        ({"type": "response.completed",
          "response": {"id": "r", "usage": {"input_tokens": 5, "output_tokens": 6}}}, (5, 6, 11)),
        ({"type": "message_start", "message": {"usage": {"input_tokens": 5}}}, (5, 0, 5)),
        ({"response": {"usage": None}, "usage": None}, None),
        ({"response": "usage", "message": ["usage"]}, None),
        ({"usage": "much"}, None),
        ({"text": 'a "usage" of words'}, None),
        ([{"usage": CHAT}], None),
        ("usage", None),
    ],
)  # fmt: skip
def test_where_it_is_reported(body: Any, expected: tuple[int, int, int] | None) -> None:
    assert counts(usage_in(json.dumps(body).encode())) == expected


def test_what_a_later_event_does_not_say_stays() -> None:
    start = usage_in(b'{"message": {"usage": {"input_tokens": 5, "output_tokens": 1}}}')
    assert counts(usage_in(b'{"usage": {"output_tokens": 40}}', start)) == (5, 40, 45)
    assert usage_in(b'{"delta": "a"}', start) is start
    assert usage_in(b'{"usage": 5', start) is start


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes_are_a_usage_or_none(before: bytes, after: bytes) -> None:
    usage = usage_in(before + b'{"usage"' + after)
    assert usage is None or isinstance(usage, Usage)
