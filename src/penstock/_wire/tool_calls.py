"""Which call a piece of a streamed tool call belongs to, and what its pieces make.

Rule 8 of the wire (docs/pages/internals/wire.md). A well-behaved server numbers its calls
and names each once; others leave the index out, send null or -1, use 0 for every call,
repeat the id or the name on every piece, or send no ids at all. So a piece goes

- by its id, when it has one: a known id is that call, a new one a new call, also at an
  index that is taken; only a call still without an id takes a new one over;
- else by its index, when there is a call at it;
- else to the call opened last, unless it has a name, which opens a call at its own index.

A name at a call whose arguments are already a whole object opens another call too: gateways
to Gemini sent parallel calls each whole, all at index 0 (su-kaka/gcli2api#406), and Gemini
itself has no ids for them.

`take_complete` says which calls are complete while others still come.
"""

from __future__ import annotations

from heapq import heappop, heappush

from penstock.types import Function, ToolCall, ToolCallDelta

from .whole_object import WholeObject

__all__ = ["ToolCalls"]


class _Call:
    __slots__ = (
        "_name",
        "_name_length",
        "_object",
        "_unseen",
        "arguments",
        "changed",
        "given",
        "id",
        "index",
        "number",
        "type",
    )

    def __init__(self, index: int | None, number: int) -> None:
        self.index = index
        self.number = number  # in the order they were opened
        self.changed = False  # since take_complete looked at it
        self.given = False  # by take_complete
        self.id = ""
        self.type = ""
        # In pieces: a server may send any number of them, and joining each time is quadratic.
        self._name: list[str] = []
        self._name_length = 0
        self.arguments: list[str] = []
        self._object = WholeObject()
        self._unseen: list[str] = []

    def joined_arguments(self) -> str:
        whole = "".join(self.arguments)
        self.arguments[:] = [whole] if whole else []
        return whole

    def add_arguments(self, piece: str) -> None:
        self.arguments.append(piece)
        self._unseen.append(piece)

    def has_whole_arguments(self) -> bool:
        for piece in self._unseen:
            self._object.feed(piece)
        self._unseen.clear()
        return bool(self._object)

    def add_name(self, piece: str) -> None:
        self._name.append(piece)
        self._name_length += len(piece)

    def has_name(self, name: str) -> bool:
        """Whether that is its name by now; "" asks whether it has none."""
        return len(name) == self._name_length and name == self.joined_name()

    def joined_name(self) -> str:
        whole = "".join(self._name)
        self._name[:] = [whole] if whole else []
        return whole

    def give(self) -> ToolCall:
        self.given = True
        return self.whole()

    def whole(self) -> ToolCall:
        return ToolCall(
            id=self.id or None,
            type=self.type or "function",
            function=Function(name=self.joined_name(), arguments=self.joined_arguments()),
        )


class ToolCalls:
    """The tool calls of one choice, from their pieces."""

    __slots__ = ("_by_id", "_by_index", "_calls", "_changed", "_finished", "_first")

    def __init__(self) -> None:
        self._calls: list[_Call] = []  # in the order they were opened
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        # Those that may have become complete, the one opened first on top: looking at every
        # call after each chunk is quadratic.
        self._changed: list[tuple[int, _Call]] = []
        self._finished = False
        self._first = 0  # no call before it is still to be given

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, piece: ToolCallDelta) -> None:
        """Take one piece; null and empty parts of it change nothing."""
        function = piece.function
        name = (function.name if function is not None else None) or ""
        arguments = (function.arguments if function is not None else None) or ""
        if not (piece.id or piece.type or name or arguments):
            return
        call = self._find(piece, name, arguments)
        call.type = call.type or piece.type or ""
        if name and not call.has_name(name):  # the whole name once more is no piece of it
            call.add_name(name)
        if arguments:
            call.add_arguments(arguments)
            self._note(call)

    def whole(self) -> list[ToolCall]:
        """The calls so far, as new objects: by index where each has one, else as opened."""
        calls = self._calls
        if all(call.index is not None for call in calls):
            calls = sorted(calls, key=lambda call: call.index or 0)
        return [call.whole() for call in calls]

    def take_complete(self, *, finished: bool, ended: bool) -> ToolCall | None:
        """A call that nothing can be added to, each one once; None if there is none by now.

        `finished`: the choice had its finish_reason. `ended`: nothing comes any more. A call is
        complete when its arguments are a whole object and either holds, or another call was
        opened after it: servers may send pieces of two calls in turns, and a finish_reason
        before the last pieces. At the end every call is complete, whatever its arguments are.
        """
        calls = self._calls
        if ended:
            while self._first < len(calls):
                call = calls[self._first]
                self._first += 1
                if not call.given:
                    return call.give()
            return None
        if finished and not self._finished:
            self._finished = True
            for call in calls:
                self._note(call)
        while self._changed:
            _, call = heappop(self._changed)
            call.changed = False
            if call.given or (call is calls[-1] and not finished):
                continue
            if call.has_whole_arguments():
                return call.give()
        return None

    def _note(self, call: _Call) -> None:
        if not (call.given or call.changed):
            call.changed = True
            heappush(self._changed, (call.number, call))

    def _find(self, piece: ToolCallDelta, name: str, arguments: str) -> _Call:
        if piece.id and (known := self._by_id.get(piece.id)):
            return known
        index = piece.index if piece.index is not None and piece.index >= 0 else None
        call = self._calls[-1] if self._calls else None
        if index is not None and (index in self._by_index or name or piece.id):
            call = self._by_index.get(index)
        if call is None or _opens_another(call, piece, name, arguments):
            call = self._open(index)
        if piece.id:
            call.id = piece.id
            self._by_id[piece.id] = call
        return call

    def _open(self, index: int | None) -> _Call:
        if self._calls:
            self._note(self._calls[-1])  # it is the last one no more
        call = _Call(index, len(self._calls))
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call


def _opens_another(call: _Call, piece: ToolCallDelta, name: str, arguments: str) -> bool:
    """Whether a piece that comes to this call begins another one."""
    if piece.id and (call.id or (name and not call.has_name("") and not call.has_name(name))):
        return True
    begun = arguments.lstrip()
    if not name or (call.has_name(name) and not begun) or (begun and not begun.startswith("{")):
        return False
    return call.has_whole_arguments()
