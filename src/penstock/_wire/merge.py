"""Assembles members that no type knows from the pieces in which a stream brings them.

Pieces of a delta or a tool call are increments. Text is joined, objects are merged, elements
of lists are merged with the last one that has the same `index`, `type` and `id`, and appended
if they have no `index`; of other values the last one counts. Labels (ids, types, names, roles
and the like) are never joined. Empty strings and null overwrite nothing.

What a chunk or a choice says beside its deltas is usually said again and again, so there text
that is equal to what there is, and a list that begins with it, are not added to it.

Values are kept in a form that takes pieces in time linear in their size: text as `_Text`,
lists as `_List`, objects as dicts. `snapshot` makes JSON values of them.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from .json_values import is_list, is_object
from .noise import is_noise

__all__ = ["MAX_MEMBERS", "Budget", "Members"]

MAX_MEMBERS = 1_048_576
"""Bound on the members and elements of one answer that no type knows."""

_LABELS = frozenset(
    {
        "encoding", "format", "id", "index", "language", "mime_type", "model", "name", "object",
        "provider", "role", "severity", "status", "type", "version",
    }
)  # fmt: skip
_LABEL_ENDINGS = ("_id", "_model", "_name", "_reason", "_status", "_type", "_version")
# Opaque text that servers send whole, some of them again with each piece.
_WHOLE_ENDINGS = ("signature", "url")

Node: TypeAlias = "_Text | _List | dict[str, Any] | int | float | None"


class Budget:
    """How many members an answer may still have; shared by all its parts."""

    __slots__ = ("left",)

    def __init__(self, left: int = MAX_MEMBERS) -> None:
        self.left = left
        """Members that may still be added; below 0 some were left out."""

    def take(self) -> bool:
        """Take one, if there is one."""
        self.left -= 1
        return self.left >= 0


class Members:
    """Unknown members of one part of an answer."""

    __slots__ = ("_budget", "_increments", "_last", "_members")

    def __init__(self, budget: Budget, *, increments: bool) -> None:
        self._budget = budget
        self._increments = increments
        self._members: dict[str, Any] = {}
        # What was added last, if it changes nothing to add it again.
        self._last: dict[str, Any] | None = None

    def add(self, given: dict[str, Any]) -> None:
        """Add what a piece has; noise is left out."""
        if given == self._last:
            return
        for name, value in given.items():
            if not is_noise(name):
                self._add(self._members, name, value)
        if not (self._increments or _has_numbers(given)):
            self._last = given

    def snapshot(self) -> dict[str, Any]:
        """Return the members so far, in objects of their own."""
        return {name: _snapshot(node) for name, node in self._members.items()}

    def _add(self, members: dict[str, Any], name: str, value: Any) -> None:
        if name not in members:
            if self._budget.take():
                members[name] = self._opened(value)
            return
        if value is None or value == "":
            return
        node = members[name]
        if isinstance(value, str) and isinstance(node, _Text):
            if _is_label(name):
                node.set(value)
            elif not (self._says_again(name) and node.is_equal(value)):
                node.add(value)
        elif is_object(value) and is_object(node):
            for inner, item in value.items():
                self._add(node, inner, item)
        elif is_list(value) and isinstance(node, _List):
            self._extend(node, value)
        else:
            members[name] = self._opened(value)

    def _says_again(self, name: str) -> bool:
        return not self._increments or name.endswith(_WHOLE_ENDINGS)

    def _opened(self, value: Any) -> Node:
        if isinstance(value, str):
            return _Text(value)
        if is_object(value):
            members: dict[str, Any] = {}
            for name, item in value.items():
                self._add(members, name, item)
            return members
        if is_list(value):
            node = _List()
            self._extend(node, value)
            return node
        number: int | float | None = value
        return number

    def _extend(self, node: _List, items: list[Any]) -> None:
        if not self._increments and node.begins(items):
            items = items[len(node.items) :]
        for item in items:
            place = node.place_of(item)
            if place is not None:
                for name, value in item.items():
                    self._add(node.items[place], name, value)
            elif self._budget.take():
                node.append(self._opened(item), item)


class _Text:
    __slots__ = ("_length", "_pieces")

    def __init__(self, text: str) -> None:
        self.set(text)

    def set(self, text: str) -> None:
        self._pieces = [text]
        self._length = len(text)

    def add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._length += len(piece)

    def is_equal(self, text: str) -> bool:
        return self._length == len(text) and self.joined() == text

    def joined(self) -> str:
        if len(self._pieces) > 1:
            self._pieces[:] = ["".join(self._pieces)]
        return self._pieces[0]


class _List:
    __slots__ = ("_places", "items")

    def __init__(self) -> None:
        self.items: list[Any] = []
        # By index: the elements that have it, each with its place, type and id.
        self._places: dict[int, list[tuple[int, Any, Any]]] = {}

    def append(self, node: Node, item: Any) -> None:
        if is_object(item):
            index = item.get("index")
            if isinstance(index, int):
                same = self._places.setdefault(index, [])
                # Only the last few can still be meant.
                del same[:-8]
                same.append((len(self.items), item.get("type"), item.get("id")))
        self.items.append(node)

    def place_of(self, item: Any) -> int | None:
        """Return where the element is that this is a piece of; None if it is a new one."""
        if not is_object(item):
            return None
        index = item.get("index")
        if not isinstance(index, int):
            return None
        kind, identity = item.get("type"), item.get("id")
        same = self._places.get(index, [])
        for number in range(len(same) - 1, -1, -1):
            place, its_kind, its_identity = same[number]
            if _agree(kind, its_kind) and _agree(identity, its_identity):
                same[number] = (place, its_kind or kind, its_identity or identity)
                return place
        return None

    def begins(self, items: list[Any]) -> bool:
        """Return whether these begin with the elements there are, which are not numbers."""
        mine = self.items
        return (
            0 < len(mine) <= len(items)
            and not any(isinstance(item, (int, float)) for item in mine)
            and [_snapshot(node) for node in mine] == items[: len(mine)]
        )


def _has_numbers(value: Any) -> bool:
    """Return whether there is a list of numbers, to which equal ones may be added."""
    if is_object(value):
        return any(map(_has_numbers, value.values()))
    return is_list(value) and any(
        isinstance(item, (int, float)) or _has_numbers(item) for item in value
    )


def _agree(one: Any, other: Any) -> bool:
    return not one or not other or one == other


def _is_label(name: str) -> bool:
    return name in _LABELS or name.endswith(_LABEL_ENDINGS)


def _snapshot(node: Any) -> Any:
    if isinstance(node, _Text):
        return node.joined()
    if isinstance(node, _List):
        return [_snapshot(item) for item in node.items]
    if is_object(node):
        return {name: _snapshot(item) for name, item in node.items()}
    return node
