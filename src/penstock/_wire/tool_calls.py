"""Assigns the pieces of streamed tool calls to their calls, and assembles these.

Rule 8 of the wire (docs/pages/internals/wire.md). A well-behaved server numbers its calls and
names each once; others leave the index out, send null or -1, use 0 for every call, repeat the
id or the name on every piece, give two calls one id, or send no ids at all. So a piece goes

- by its id, if it has one: a known id is that call (of two with this id, the one at this
  index), a new one a new call, also at an index that is taken; only a call still without an id
  takes a new one over;
- else by its index, if there is a call at it;
- else to the call opened last, unless it has a name, which opens a call at its own index.

A piece with a name opens another call even so

- if the call's arguments are already a whole object: gateways to Gemini sent parallel calls
  each whole, all at index 0 (su-kaka/gcli2api#406), and Gemini itself has no ids for them;
- if the call is at another index under another name, though their id is the same.

A server that repeats id and name on each piece of one call still makes one call, also if its
index counts the pieces. `take_complete` tells which calls are complete while others still come.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from msgspec import UNSET

from penstock.types import Function, ToolCall, ToolCallDelta

from .call_id import new_call_id
from .json_values import is_object
from .merge import Budget, Members
from .noise import says_something
from .whole_object import WholeObject

__all__ = ["ToolCalls"]


class _Call:
    __slots__ = (
        "_made_id",
        "_name",
        "_name_length",
        "_object",
        "_unseen",
        "arguments",
        "changed",
        "custom",
        "function_members",
        "given",
        "id",
        "index",
        "members",
        "named_again",
        "number",
        "type",
    )

    def __init__(self, index: int | None, number: int, budget: Budget) -> None:
        self.index = index
        self.number = number  # in the order they were opened
        self.changed = False  # since take_complete looked at it
        self.given = False  # by take_complete
        self.named_again = False  # once its arguments were whole, without further ones
        self.custom = False  # it calls a custom tool, whose input is free text
        self.id = ""
        self._made_id = ""
        self.type = ""
        self.members = Members(budget, increments=True)
        self.function_members = Members(budget, increments=True)
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
        """Return whether this is its name by now; "" asks whether it has none."""
        return len(name) == self._name_length and name == self.joined_name()

    def joined_name(self) -> str:
        whole = "".join(self._name)
        self._name[:] = [whole] if whole else []
        return whole

    def give(self) -> ToolCall:
        self.given = True
        return self.whole()

    def whole(self) -> ToolCall:
        if not self.id and not self._made_id:
            self._made_id = new_call_id()
        name = "" if self.custom else self.joined_name()
        return ToolCall(
            id=self.id or self._made_id,
            type=self.type or ("custom" if self.custom else "function"),
            function=Function(
                name=name,
                arguments=self.joined_arguments(),
                extra=self.function_members.snapshot() or UNSET,
            ),
            extra=self.members.snapshot() or UNSET,
        )


class ToolCalls:
    """The tool calls of one choice, from their pieces."""

    __slots__ = ("_budget", "_by_id", "_by_index", "_calls", "_changed", "_finished", "_first")

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = Budget() if budget is None else budget
        self._calls: list[_Call] = []  # in the order they were opened
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        # Calls that may have become complete, the one opened first on top: looking at every call
        # after each chunk is quadratic.
        self._changed: list[tuple[int, _Call]] = []
        self._finished = False
        self._first = 0  # all calls before it were given

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, piece: ToolCallDelta) -> None:
        """Take one piece; null and empty parts of it change nothing."""
        function = piece.function
        name = (function.name if function is not None else None) or ""
        arguments = (function.arguments if function is not None else None) or ""
        extra = piece.extra or {}
        function_extra = (function.extra if function is not None else None) or {}
        custom: Any = extra.get("custom")
        if is_object(custom) and not name:
            called = custom.get("name")
            name = called if isinstance(called, str) else ""
        call: _Call | None
        if (
            piece.id
            or piece.type
            or name
            or arguments
            or says_something(extra)
            or says_something(function_extra)
        ):
            call = self._find(piece, name, arguments)
        else:
            call = self._found(piece.index)
            if call is None:
                return
        call.type = call.type or piece.type or ""
        if name:
            if not call.has_name(name):  # the whole name once more is not a piece of it
                call.add_name(name)
            call.named_again = not arguments and call.has_whole_arguments()
        if extra:
            call.custom = call.custom or is_object(custom)
            call.members.add(extra)
        if function_extra:
            call.function_members.add(function_extra)
        if arguments:
            call.add_arguments(arguments)
            self._note(call)

    def whole(self) -> list[ToolCall]:
        """Return the calls so far, as new objects: by index if each has one, else as opened.

        A call without an id is given one, the same each time.
        """
        calls = self._calls
        if all(call.index is not None for call in calls):
            calls = sorted(calls, key=lambda call: call.index or 0)
        return [call.whole() for call in calls]

    def take_complete(self, *, finished: bool, ended: bool) -> ToolCall | None:
        """Return a complete call, each one once; None if there is none by now.

        `finished` says that the choice had its finish_reason, `ended` that nothing more comes.
        A call is complete once its arguments are a whole object and it is finished or another
        call was opened after it: servers may send pieces of two calls in turns, and a
        finish_reason before the last pieces. A custom call, whose input is free text, is
        complete once finished. At the end every call is, whatever its arguments are.
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
            if (call.custom and finished) or call.has_whole_arguments():
                return call.give()
        return None

    def _note(self, call: _Call) -> None:
        if not (call.given or call.changed):
            call.changed = True
            heappush(self._changed, (call.number, call))

    def _found(self, index: int | None) -> _Call | None:
        """Return the call at this index, or else the one opened last."""
        last = self._calls[-1] if self._calls else None
        return last if index is None else self._by_index.get(index, last)

    def _find(self, piece: ToolCallDelta, name: str, arguments: str) -> _Call:
        index = piece.index if piece.index is not None and piece.index >= 0 else None
        call: _Call | None
        if piece.id and (known := self._by_id.get(piece.id)):
            here = None if index is None else self._by_index.get(index)
            call = here if here is not None and here.id == piece.id else known
            if not _is_another(call, index, name, arguments):
                return call
            call = None
        else:
            call = self._calls[-1] if self._calls else None
            if index is not None and (index in self._by_index or name or piece.id):
                call = self._by_index.get(index)
            if call is not None and _follows_its_name(call, name, arguments):
                return self._open_again(call)
            if call is not None and (
                _has_another_id(call, piece, name) or _is_another(call, None, name, arguments)
            ):
                call = None
        if call is None:
            call = self._open(index)
        if piece.id:
            call.id = piece.id
            self._by_id[piece.id] = call
        return call

    def _open_again(self, call: _Call) -> _Call:
        """Open another call like this one, whose id and name came before its arguments."""
        another = self._open(call.index)
        another.id = call.id
        another.type = call.type
        another.add_name(call.joined_name())
        if call.id:
            self._by_id[call.id] = another
        return another

    def _open(self, index: int | None) -> _Call:
        if self._calls:
            self._note(self._calls[-1])  # it is no longer the last one
        call = _Call(index, len(self._calls), self._budget)
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call


def _follows_its_name(call: _Call, name: str, arguments: str) -> bool:
    """Return whether arguments begin after the name of a whole call was given once more."""
    return not name and call.named_again and arguments.lstrip().startswith("{")


def _has_another_id(call: _Call, piece: ToolCallDelta, name: str) -> bool:
    """Return whether a piece with a new id begins another call."""
    unnamed = call.has_name("") or not name or call.has_name(name)
    return bool(piece.id) and (bool(call.id) or not unnamed)


def _is_another(call: _Call, index: int | None, name: str, arguments: str) -> bool:
    """Return whether a piece that comes to this call with this name begins another one."""
    if not name:
        return False
    moved = index is not None and call.index is not None and index != call.index
    same_name = call.has_name(name)
    if moved and (call.custom or not (same_name or call.has_name(""))):
        return True
    begun = arguments.lstrip()
    if (same_name and not begun and not moved) or (begun and not begun.startswith("{")):
        return False
    return call.has_whole_arguments()
