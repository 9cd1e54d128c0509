"""Tool calls from their pieces.

- Of a server that numbers its calls and names each once, interleaved as it likes, each call
  comes out as it was written.
- Of any other, nothing is lost: all argument text, every id, and no call appears from nowhere,
  whatever the index. A call without an id is given one.
- `take_complete` gives each call once, and all of them by the end.
"""

from __future__ import annotations

from penstock._wire.tool_calls import ToolCalls
from penstock.types import FunctionDelta, ToolCall, ToolCallDelta

from ..reader import Reader
from ..target import Target

INDEXES = (0, 1, 2, 0, None, -1, 2**31, 2**63 - 1)
IDS = (None, "", "a", "b", "c")
NAMES = (None, "", "f", "g", "fg")
ARGUMENTS = (None, "", "{", "}", "{}", '{"a":', "1}", '"}', '"{', " ", '{"a":{}}', "x", "\n{}")
WELL_BEHAVED = ('{"a":1}', "{}", '{"a":{"b":"}"}}', '{"x":"{\\"y\\":{}}"}')


def check(data: bytes) -> None:
    reader = Reader(data)
    if reader.below(2):
        numbered(reader)
    else:
        anyhow(reader)


def numbered(reader: Reader) -> None:
    texts = [reader.pick(WELL_BEHAVED) for _ in range(1 + reader.below(4))]
    calls = ToolCalls()
    sent = [0] * len(texts)
    opened = 0
    while unsent := [n for n, text in enumerate(texts) if n <= opened and sent[n] < len(text)]:
        number = reader.pick(unsent)
        first = number == opened
        opened += first
        told = reader.byte()
        start = sent[number]
        end = start if first and told & 1 else start + 1 + reader.below(8)
        sent[number] = min(end, len(texts[number]))
        calls.add(
            ToolCallDelta(
                index=number,
                id=f"call-{number}" if first or told & 2 else None,
                type="function" if first or told & 4 else None,
                function=FunctionDelta(
                    name=f"f{number}" if first or told & 8 else None,
                    arguments=texts[number][start:end],
                ),
            )
        )
    for number, (call, text) in enumerate(zip(calls.whole(), texts, strict=True)):
        assert (call.id, call.type) == (f"call-{number}", "function")
        assert (call.function.name, call.function.arguments) == (f"f{number}", text)


def anyhow(reader: Reader) -> None:
    calls = ToolCalls()
    pieces: list[ToolCallDelta] = []
    given: list[ToolCall] = []
    while reader.left:
        function = None
        if reader.below(4):
            name = reader.pick(NAMES)
            arguments = reader.pick(ARGUMENTS)
            function = FunctionDelta(name=name, arguments=arguments)
        piece = ToolCallDelta(
            index=reader.pick(INDEXES),
            id=reader.pick(IDS),
            type=(None, "function", "")[reader.below(3)],
            function=function,
        )
        pieces.append(piece)
        calls.add(piece)
        assert len(calls.whole()) <= len(pieces)
        if reader.below(2):
            given += taken(calls, finished=bool(reader.below(2)), ended=False)
    whole = calls.whole()
    ids = {call.id for call in whole if call.id in IDS}
    assert ids == {piece.id for piece in pieces if piece.id}
    assert all(call.id for call in whole)
    written = [p.function.arguments or "" for p in pieces if p.function is not None]
    assert sorted("".join(written)) == sorted("".join(c.function.arguments for c in whole))
    if len(whole) == 1:
        assert whole[0].function.arguments == "".join(written)
    given += taken(calls, finished=True, ended=True)
    assert len(given) == len(whole)
    assert calls.take_complete(finished=True, ended=True) is None


def taken(calls: ToolCalls, *, finished: bool, ended: bool) -> list[ToolCall]:
    found = []
    while (call := calls.take_complete(finished=finished, ended=ended)) is not None:
        found.append(call)
    return found


TARGET = Target(
    check,
    seeds=[b"\x00" + bytes(range(60)), b"\x01" + bytes(range(60)), b"\x00" + b"\x01\x02\x04" * 9],
    max_length=256,
)
