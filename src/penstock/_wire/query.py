"""Queries of URLs: read, checked and merged."""

from __future__ import annotations

import math
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

__all__ = ["Query"]


class Query(msgspec.Struct, frozen=True):
    """The parameters of a URL's query in their order."""

    parts: tuple[tuple[str, str], ...] = ()
    """For each parameter its name, and `name=value` as it is written in the URL."""

    @classmethod
    def parse(cls, text: str) -> Query:
        """Read the query of a URL, which is percent-encoded already."""
        parts = [part for part in text.split("&") if part]
        return cls(
            tuple((urllib.parse.unquote_plus(part.partition("=")[0]), part) for part in parts)
        )

    @classmethod
    def of(cls, values: Mapping[str, Any] | None, name: str) -> Query:
        """Encode a mapping; `name` is what messages call it.

        A value is a string, a number or a bool; a list of them repeats the parameter, and None
        leaves it out. TypeError or ValueError if it is anything else. Errors show no value.
        """
        if values is None:
            return cls()
        if not _is_mapping(values):
            raise TypeError(f"{name} must be a mapping, not {type(values).__name__}")
        parts: list[tuple[str, str]] = []
        for key, value in values.items():
            if not isinstance(key, str):
                raise TypeError(f"{name} has a name that is not a string: {type(key).__name__}")
            for each in _each(value):
                parts.append((key, f"{_quoted(key, name)}={_quoted(_text(each, name), name)}"))
        return cls(tuple(parts))

    def merged(self, other: Query) -> Query:
        """Return both; a parameter of `other` replaces those of the same name here."""
        if not other.parts:
            return self
        replaced = {name for name, _ in other.parts}
        kept = [part for part in self.parts if part[0] not in replaced]
        return Query((*kept, *other.parts))

    def __str__(self) -> str:
        return "&".join(written for _, written in self.parts)

    # Without values: one may be a key.
    def __repr__(self) -> str:
        return f"<Query {', '.join(name for name, _ in self.parts)}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("names", ", ".join(name for name, _ in self.parts))]


def _is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_several(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple))


def _each(value: Any) -> Sequence[Any]:
    if _is_several(value):
        return value
    return () if value is None else (value,)


def _text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    # Subclasses, such as members of an enum, may show themselves in another way.
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} has a value that is not a finite number")
        return float.__repr__(value)
    raise TypeError(
        f"{name} has a value of type {type(value).__name__}: give strings, numbers or bools"
    )


def _quoted(text: str, name: str) -> str:
    try:
        return urllib.parse.quote(text, safe="")
    except UnicodeEncodeError:
        raise ValueError(f"{name} contains a lone surrogate: it is not valid Unicode") from None
