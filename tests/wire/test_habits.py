"""Chunks are decoded the same, whatever was decoded before them in the stream."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock._wire import habits
from penstock._wire.decode import ChunkDecodeError, decode_chunk, tolerant_chunk
from penstock._wire.habits import ChunkDecoder
from penstock.types import ChatCompletionChunk

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.just(0.5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xyz"), inner),
    max_leaves=4,
)
unknown = st.dictionaries(
    st.sampled_from(["provider", "native", "timings", "penstock.extra", "a", "b"]), values
)


def part(known: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    fixed = st.fixed_dictionaries({}, optional=known)
    return st.builds(lambda one, other: {**one, **other}, unknown, fixed)


texts = st.sampled_from(["", "tok", "\ud800"]) | st.none()
deltas = part({"content": texts, "role": texts, "tool_calls": values}) | st.none()
choices = part({"index": st.sampled_from([0, 1, -1, 0.0]), "delta": deltas, "finish_reason": texts})
usages = part({"prompt_tokens": st.sampled_from([0, 3, 3.0])}) | st.none()
chunks = part({"id": texts, "choices": st.lists(choices, max_size=2) | values, "usage": usages})


def outcome(decode: Any, data: bytes) -> Any:
    try:
        return decode(data)
    except ChunkDecodeError as error:
        return str(error)


@given(st.lists(chunks | values, max_size=6))
def test_what_came_before_changes_nothing(payloads: list[Any]) -> None:
    decoder = ChunkDecoder()
    for payload in payloads:
        data = json.dumps(payload).encode()
        by_habit, alone = outcome(decoder.decode, data), outcome(decode_chunk, data)
        assert by_habit == alone
        if isinstance(alone, ChatCompletionChunk):
            assert (by_habit.raw, by_habit.to_dict()) == (alone.raw, alone.to_dict())
            assert by_habit.extra == alone.extra


def test_a_known_name_needs_no_second_look(monkeypatch: Any) -> None:
    looks: list[bytes] = []

    def counted(data: bytes) -> ChatCompletionChunk:
        looks.append(data)
        return tolerant_chunk(data)

    monkeypatch.setattr(habits, "tolerant_chunk", counted)
    decoder = ChunkDecoder()
    choice = {"index": 0, "delta": {"content": "a", "thought": 1}, "native": "stop"}
    data = json.dumps({"id": "c", "provider": "x", "choices": [choice]}).encode()
    for _ in range(5):
        chunk = decoder.decode(data)
        assert chunk.extra == {"provider": "x"}
        assert chunk.choices[0].extra == {"native": "stop"}
        assert chunk.choices[0].delta.extra == {"thought": 1}
    assert looks == [data]


def test_names_are_bounded() -> None:
    decoder = ChunkDecoder()
    for number in range(1000):
        chunk = decoder.decode(json.dumps({f"x{number}": number, "choices": []}).encode())
        assert chunk.extra == {f"x{number}": number}
    assert decoder._chunk is not None
    assert len(decoder._chunk) <= habits._MOST
