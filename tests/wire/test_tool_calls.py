from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.tool_calls import ToolCalls
from penstock.types import Function, FunctionDelta, ToolCallDelta

from .linear import growth

Whole = list[tuple[str | None, str, str]]


def piece(
    index: int | None = None,
    id: str | None = None,
    name: str | None = None,
    arguments: str | None = None,
    type: str | None = None,
) -> ToolCallDelta:
    function = None if name is None and arguments is None else FunctionDelta(name, arguments)
    return ToolCallDelta(index=index, id=id, type=type, function=function)


def whole(*pieces: ToolCallDelta) -> Whole:
    calls = ToolCalls()
    for one in pieces:
        calls.add(one)
    return as_given(calls, pieces)


def as_given(calls: ToolCalls, pieces: Sequence[ToolCallDelta]) -> Whole:
    """The calls so far, with None for an id that no piece has."""
    sent = {one.id for one in pieces}
    return [
        (call.id if call.id in sent else None, call.function.name, call.function.arguments)
        for call in calls.whole()
    ]


PARIS, ROME = '{"city":"Paris"}', '{"city":"Rome"}'
BOTH: Whole = [("a", "weather", PARIS), ("b", "weather", ROME)]
SAME_ID: Whole = [("a", "weather", PARIS), ("a", "weather", ROME)]
NO_IDS: Whole = [(None, "weather", PARIS), (None, "weather", ROME)]

CASES: dict[str, tuple[list[ToolCallDelta], Whole]] = {
    "as OpenAI sends them": (
        [
            piece(0, "a", "weather", "", "function"),
            piece(0, arguments='{"city":'),
            piece(0, arguments='"Paris"}'),
            piece(1, "b", "weather", "", "function"),
            piece(1, arguments=ROME),
        ],
        BOTH,
    ),
    "interleaved": (
        [
            piece(0, "a", "weather", ""),
            piece(1, "b", "weather", ""),
            piece(0, arguments='{"city":'),
            piece(1, arguments='{"city":"R'),
            piece(0, arguments='"Paris"}'),
            piece(1, arguments='ome"}'),
        ],
        BOTH,
    ),
    "the index is missing": (
        [
            piece(None, "a", "weather", '{"city":'),
            piece(None, None, None, '"Paris"}'),
            piece(None, "b", "weather", ROME),
        ],
        BOTH,
    ),
    "the index is negative": (
        [
            piece(-1, "a", "weather", '{"city":'),
            piece(-1, None, None, '"Paris"}'),
            piece(-1, "b", "weather", ROME),
        ],
        BOTH,
    ),
    "every call has index 0 and its own id": (
        [
            piece(0, "a", "weather", '{"city":'),
            piece(0, None, None, '"Paris"}'),
            piece(0, "b", "weather", '{"city":'),
            piece(0, None, None, '"Rome"}'),
        ],
        BOTH,
    ),
    "sparse, and opened in another order": (
        [piece(7, "b", "weather", ROME), piece(3, "a", "weather", PARIS)],
        BOTH,
    ),
    "the id on every piece, the index wrong on some": (
        [
            piece(0, "a", "weather", '{"city":'),
            piece(1, "b", "weather", '{"city":'),
            piece(0, "b", None, '"Rome"}'),
            piece(None, "a", None, '"Paris"}'),
        ],
        BOTH,
    ),
    "the index counts pieces": (
        [
            piece(0, "a", "weather", ""),
            piece(1, None, None, '{"city":'),
            piece(2, None, None, '"Paris"}'),
        ],
        [BOTH[0]],
    ),
    "the id is empty or null later": (
        [
            piece(0, "a", "weather", '{"city":'),
            piece(0, "", "", '"Par'),
            piece(0, None, None, 'is"}'),
        ],
        [BOTH[0]],
    ),
    "the id comes late": (
        [piece(0, None, "weather", ""), piece(0, "a", None, PARIS)],
        [BOTH[0]],
    ),
    "the id comes late, with the name again": (
        [piece(None, None, "weather", None), piece(None, "a", "weather", PARIS)],
        [BOTH[0]],
    ),
    "an id with another name after a call without an id": (
        [piece(0, None, "time", ""), piece(0, "a", "weather", PARIS)],
        [(None, "time", ""), BOTH[0]],
    ),
    "the whole name on every piece": (
        [
            piece(0, "a", "weather", '{"city":'),
            piece(0, "a", "weather", '"Paris"}'),
            piece(1, "b", "weather", '{"city":'),
            piece(1, None, "weather", '"Rome"}'),
        ],
        BOTH,
    ),
    "the name in pieces": (
        [piece(0, "a", "wea"), piece(0, None, "ther"), piece(0, None, "weather", PARIS)],
        [BOTH[0]],
    ),
    "the name in pieces beside the arguments": (
        [piece(0, "a", "wea", '{"city":'), piece(0, None, "ther", '"Paris"}')],
        [BOTH[0]],
    ),
    "no ids, whole, all at index 0": (
        [piece(0, "", "weather", PARIS), piece(0, "", "weather", ROME)],
        NO_IDS,
    ),
    "no ids, no index, whole": (
        [piece(None, None, "weather", PARIS), piece(None, None, "weather", ROME)],
        NO_IDS,
    ),
    "no ids, in pieces, all at index 0": (
        [
            piece(0, None, "weather", '{"city":'),
            piece(0, None, None, '"Paris"}'),
            piece(0, None, "time", ""),
            piece(0, None, None, "{}"),
        ],
        [(None, "weather", PARIS), (None, "time", "{}")],
    ),
    "no ids, but an index": (
        [piece(0, None, "weather", PARIS), piece(1, None, "weather", ROME)],
        NO_IDS,
    ),
    "the name again after the arguments, with nothing new": (
        [piece(0, "a", "weather", PARIS), piece(0, None, "weather", "")],
        [BOTH[0]],
    ),
    "braces inside a string are no end": (
        [
            piece(0, None, "say", '{"text":"a}'),
            piece(0, None, "say", '{b"}'),
        ],
        [(None, "say", '{"text":"a}{b"}')],
    ),
    "one id, other indexes, whole": (
        [piece(0, "a", "weather", PARIS), piece(1, "a", "weather", ROME)],
        SAME_ID,
    ),
    "one id and one index, whole": (
        [piece(0, "a", "weather", PARIS), piece(0, "a", "weather", ROME)],
        SAME_ID,
    ),
    "one id, no index, whole": (
        [piece(None, "a", "weather", PARIS), piece(None, "a", "weather", ROME)],
        SAME_ID,
    ),
    "one id, other indexes, the second in pieces": (
        [
            piece(0, "a", "weather", PARIS),
            piece(1, "a", "weather", ""),
            piece(1, None, None, '{"city":'),
            piece(1, "a", "weather", '"Rome"}'),
            piece(0, "a", "weather", ""),
        ],
        SAME_ID,
    ),
    "one id, other indexes and names, in turns": (
        [
            piece(0, "a", "weather", ""),
            piece(1, "a", "time", ""),
            piece(0, None, None, '{"city":'),
            piece(1, None, None, "{}"),
            piece(0, "a", None, '"Paris"}'),
        ],
        [("a", "weather", PARIS), ("a", "time", "{}")],
    ),
    "one id and one index, another name": (
        [
            piece(0, "a", "weather", '{"city":'),
            piece(0, "a", "weather", '"Paris"}'),
            piece(0, "a", "time", ""),
            piece(0, "a", "time", "{}"),
        ],
        [("a", "weather", PARIS), ("a", "time", "{}")],
    ),
    "the id and the name on every piece, the index counts pieces": (
        [
            piece(0, "a", "weather", ""),
            piece(1, "a", "weather", '{"city":'),
            piece(2, "a", "weather", '"Paris"}'),
        ],
        [BOTH[0]],
    ),
    "pieces that say nothing open nothing": (
        [piece(0), piece(1, "", "", ""), ToolCallDelta(function=FunctionDelta())],
        [],
    ),
    "arguments before any call": ([piece(None, None, None, "{}")], [(None, "", "{}")]),
    "equal pieces are both kept": (
        [piece(0, "a", "f", "[1,"), piece(0, arguments="1,"), piece(0, arguments="1,")],
        [("a", "f", "[1,1,1,")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_pieces_make_calls(case: str) -> None:
    pieces, expected = CASES[case]
    assert whole(*pieces) == expected


@pytest.mark.parametrize("case", CASES)
def test_looking_in_between_changes_nothing(case: str) -> None:
    pieces, expected = CASES[case]
    calls = ToolCalls()
    for one in pieces:
        calls.add(one)
        calls.whole()
    assert as_given(calls, pieces) == expected


def test_the_type_is_kept_and_defaults_to_function() -> None:
    calls = ToolCalls()
    calls.add(piece(0, "a", "f", "", "custom"))
    calls.add(piece(0, None, None, "{}", ""))
    calls.add(piece(1, "b", "g"))
    assert [call.type for call in calls.whole()] == ["custom", "function"]


def test_what_was_given_out_stays_as_it_was() -> None:
    calls = ToolCalls()
    calls.add(piece(0, "a", "f", "{"))
    before = calls.whole()
    calls.add(piece(0, None, None, "}"))
    assert before[0].function.arguments == "{"
    assert calls.whole()[0].function.arguments == "{}"


def test_deeply_nested_arguments_are_no_obstacle() -> None:
    deep = '{"a":' * 100_000 + "1" + "}" * 100_000
    assert len(whole(piece(0, None, "f", deep), piece(0, None, "f", "{}"))) == 1


@given(
    st.lists(
        st.tuples(st.text(min_size=1), st.dictionaries(st.text(), st.integers(), min_size=1)),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_calls_with_ids_survive_any_cut_and_any_interleaving(
    calls: list[tuple[str, dict[str, Any]]], data: st.DataObject
) -> None:
    queues: list[list[ToolCallDelta]] = []
    for number, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        cut = data.draw(st.integers(0, len(text)))
        queues.append(
            [
                piece(number, f"id-{number}", name, ""),
                piece(number, None, None, text[:cut]),
                piece(number, None, None, text[cut:]),
            ]
        )
    # Each opens in its turn; what follows is interleaved.
    pieces = [queue.pop(0) for queue in queues]
    while any(queues):
        pieces.append(data.draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
    assert whole(*pieces) == [
        (f"id-{number}", name, json.dumps(arguments))
        for number, (name, arguments) in enumerate(calls)
    ]


@given(
    st.lists(
        st.builds(
            piece,
            st.none() | st.integers(-1, 2),
            st.sampled_from([None, "", "a", "b"]),
            st.sampled_from([None, "", "f", "g"]),
            st.sampled_from([None, "", "{", "}", "{}"]),
        ),
        max_size=8,
    )
)
def test_no_text_is_lost_and_nothing_raises(pieces: list[ToolCallDelta]) -> None:
    given_text = sum(len(p.function.arguments or "") for p in pieces if p.function)
    assert sum(len(arguments) for _, _, arguments in whole(*pieces)) == given_text


def test_small_pieces_behind_large_ones_take_linear_time() -> None:
    # Each piece of a name made a copy of the whole name, and had the arguments read again.
    def work(size: int) -> None:
        calls = ToolCalls()
        calls.add(piece(0, "a", "n" * size, '{"a":"' + "x" * size + "}"))
        for _ in range(size // 100):
            calls.add(piece(0, name="m"))
            calls.add(piece(0, arguments=" "))
        assert len(calls) > 0

    assert growth(work, small=100_000) < 3


@pytest.mark.parametrize("arguments", ['{"a":"b"', '{"a":"b}', "x}", '{"a":b}', "[{}]"])
def test_a_name_behind_what_is_no_whole_object_is_a_piece_of_the_name(arguments: str) -> None:
    assert whole(piece(0, "a", "we", arguments), piece(0, name="ather")) == [
        ("a", "weather", arguments)
    ]


def test_a_call_without_an_id_is_given_one_that_stays() -> None:
    calls = ToolCalls()
    calls.add(piece(0, None, "f", "{}"))
    calls.add(piece(1, None, "g", "{}"))
    first, second = calls.whole()
    assert first.id
    assert second.id
    assert first.id != second.id
    assert [call.id for call in calls.whole()] == [first.id, second.id]
    assert calls.take_complete(finished=True, ended=False) == first
    calls.add(piece(0, "late", None, None))
    assert calls.whole()[0].id == "late"


def test_members_without_a_field_are_kept_in_the_call_and_its_function() -> None:
    signature = {"google": {"thought_signature": "SIG"}}
    calls = ToolCalls()
    calls.add(ToolCallDelta(index=0, id="a", extra={"extra_content": signature}))
    calls.add(ToolCallDelta(index=0, function=FunctionDelta("f", "{}", extra={"note": "a"})))
    calls.add(ToolCallDelta(index=0, id="a", extra={"extra_content": signature}))
    calls.add(ToolCallDelta(index=0, function=FunctionDelta(extra={"note": "b"})))
    [call] = calls.whole()
    assert call.to_dict() == {
        "id": "a",
        "type": "function",
        "function": {"name": "f", "arguments": "{}", "note": "ab"},
        "extra_content": signature,
    }


def custom(index: int, id: str | None = None, **members: str) -> ToolCallDelta:
    kind = "custom" if id else None
    return ToolCallDelta(index=index, id=id, type=kind, extra={"custom": members})


def test_custom_calls() -> None:
    calls = ToolCalls()
    for one in (
        custom(0, "a", name="sql", input=""),
        custom(1, "b", name="sql", input="x"),
        custom(0, input="select"),
        custom(0, input=" 1"),
        custom(0, input="1"),
    ):
        calls.add(one)
    first, second = calls.whole()
    assert (first.id, first.type, first["custom"]) == (
        "a", "custom", {"name": "sql", "input": "select 11"},
    )  # fmt: skip
    assert second["custom"] == {"name": "sql", "input": "x"}
    assert first.function == Function()
    # More input may come for any of them.
    assert calls.take_complete(finished=False, ended=False) is None
    assert calls.take_complete(finished=True, ended=False) == first
    assert calls.take_complete(finished=True, ended=False) == second
    assert calls.take_complete(finished=True, ended=True) is None


def test_custom_calls_of_one_id_are_told_apart_by_index() -> None:
    calls = ToolCalls()
    for one in (
        custom(0, "a", name="sql", input="x"),
        custom(0, "a", name="sql", input="y"),
        custom(1, "a", name="sql", input="z"),
        custom(0, "a", input="!"),
    ):
        calls.add(one)
    assert [call["custom"]["input"] for call in calls.whole()] == ["xy!", "z"]


# --- the habits of servers ---

objects = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=3)


@given(
    st.lists(st.tuples(st.sampled_from(["f", "g"]), objects), min_size=1, max_size=4),
    st.sampled_from(["own", "one for all", "none"]),
    st.sampled_from(["own", "0", "none"]),
    st.booleans(),
    st.data(),
)
def test_one_call_after_the_other(
    calls: list[tuple[str, dict[str, Any]]],
    ids: str,
    indexes: str,
    repeats: bool,
    data: st.DataObject,
) -> None:
    """Whatever a server does to id and index: its calls come out as the model wrote them."""
    pieces: list[ToolCallDelta] = []
    expected: Whole = []
    for number, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        id = {"own": f"id-{number}", "one for all": "x", "none": None}[ids]
        index = {"own": number, "0": 0, "none": None}[indexes]
        expected.append((id, name, text))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=3)))
        texts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        for place, part in enumerate(texts):
            named = repeats or place == 0
            # Without a part of the arguments a repeated name alone says nothing.
            pieces.append(piece(index, id if named else None, name if named else None, part))
    assert whole(*pieces) == expected
