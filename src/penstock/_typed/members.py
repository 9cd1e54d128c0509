"""Members that a type has no field for: set aside before decoding, put back in a payload.

A struct keeps them in its field `extra`, which is written under a name that no server uses.
`set_aside` moves them there in parsed JSON; `flattened` is its reverse.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeGuard, get_args

import msgspec

__all__ = ["EXTRA", "RAW", "Shape", "flattened", "is_list", "is_object", "set_aside", "shape_of"]

EXTRA = "penstock.extra"
"""Name under which a struct's `extra` is written."""
RAW = "penstock.raw"
"""Name under which a payload's `raw` is written."""

_NO_FUNCTION = {"name": "", "arguments": ""}


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether this is a JSON object."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Return whether this is a JSON list."""
    return isinstance(value, list)


class Shape:
    """The members of a type, and the shapes of those that are structs or lists of structs."""

    __slots__ = ("inner", "known")

    def __init__(self, known: frozenset[str], inner: tuple[tuple[str, Shape], ...]) -> None:
        self.known = known
        """Names of the members that have a field."""
        self.inner = inner
        """Name and shape of the members to look into."""


@cache
def shape_of(kind: type[msgspec.Struct]) -> Shape:
    """Return the shape of a struct type."""
    known: set[str] = set()
    inner: list[tuple[str, Shape]] = []
    for member in msgspec.structs.fields(kind):
        if member.encode_name in (EXTRA, RAW):
            continue
        known.add(member.encode_name)
        if (struct := _struct_in(member.type)) is not None:
            inner.append((member.encode_name, shape_of(struct)))
    return Shape(frozenset(known), tuple(inner))


def set_aside(payload: dict[str, Any], shape: Shape) -> bool:
    """Move members without a field to the member EXTRA, here and in inner objects, in place.

    Returns whether there were any.
    """
    known = shape.known
    found = not payload.keys() <= known
    if found:
        unknown = [name for name in payload if name not in known]
        payload[EXTRA] = {name: payload.pop(name) for name in unknown}
    for name, inner in shape.inner:
        value = payload.get(name)
        if not value:
            continue
        if is_object(value):
            found |= set_aside(value, inner)
        elif is_list(value):
            for item in value:
                if is_object(item):
                    found |= set_aside(item, inner)
    return found


def flattened(value: Any) -> Any:
    """Return the value with every EXTRA's members in its place, and without any RAW."""
    if is_list(value):
        return [flattened(item) for item in value]
    if not is_object(value):
        return value
    extra: Any = value.get(EXTRA)
    flat = {name: flattened(item) for name, item in value.items() if name not in (EXTRA, RAW)}
    if is_object(extra):
        # A call of another kind has no function, but the type has a field for it.
        if flat.get("function") == _NO_FUNCTION and flat.get("type") != "function":
            del flat["function"]
        flat.update(extra)
    return flat


def _struct_in(annotation: Any) -> type[msgspec.Struct] | None:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    return next(filter(None, map(_struct_in, get_args(annotation))), None)
