"""What a JSON body says of its answer, whatever the interface."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.labels import Labels, labels_in

CHOICES = [{"finish_reason": "stop"}, {"finish_reason": None}, {"finish_reason": "length"}]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"id": "a", "model": "m", "choices": CHOICES}, Labels("a", "m", ("stop", "length"))),
        ({"id": "r", "model": "m", "status": "completed"}, Labels("r", "m")),
        ({"id": "b", "model": "m", "stop_reason": "end_turn"}, Labels("b", "m", ("end_turn",))),
        ({"model": "m", "data": []}, Labels(None, "m")),
        ({"id": 1, "model": "", "choices": [{}], "stop_reason": []}, Labels()),
        ({"id": "c", "choices": "many"}, Labels()),
        ({"id": "e", "message": "text"}, Labels("e")),
        ([{"id": "d"}], Labels()),
        ("text", Labels()),
    ],
)
def test_each_interface(body: Any, expected: Labels) -> None:
    assert labels_in(json.dumps(body).encode()) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            [
                {"id": "a", "model": "m", "choices": [{"index": 0, "finish_reason": None}]},
                {"id": "a", "model": "m", "choices": [{"index": 1, "finish_reason": "stop"}]},
                {"id": "a", "model": "m", "choices": [{"index": 0, "finish_reason": "length"}]},
                {"id": "a", "model": "m", "choices": [], "usage": {}},
            ],
            Labels("a", "m", ("stop", "length")),
        ),
        (
            [
                {"type": "response.created", "response": {"id": "r", "model": "m"}},
                {"type": "response.output_text.delta", "delta": "Hello"},
                {"type": "response.completed", "response": {"id": "r", "model": "m"}},
            ],
            Labels("r", "m"),
        ),
        (
            [
                {"type": "message_start", "message": {"id": "b", "model": "m"}},
                {"type": "content_block_delta", "delta": {"text": "Hello"}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            ],
            Labels("b", "m", ("end_turn",)),
        ),
    ],
)
def test_the_events_of_each_interface(events: list[Any], expected: Labels) -> None:
    labels = Labels()
    for event in events:
        labels = labels_in(json.dumps(event).encode(), labels)
    assert labels == expected


@given(data=st.binary(max_size=40) | st.just(b"[" * 100_000))
def test_what_is_no_json_says_nothing(data: bytes) -> None:
    assert labels_in(data) == Labels()
