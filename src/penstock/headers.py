"""Response headers as a value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, overload

__all__ = ["Headers"]

T = TypeVar("T")

# A header line of a plain head, which `_wire.head` has checked.
_LINE = re.compile(rb"([^:\r\n]++): *+([^\r\n]*+)\r\n")

# OpenAI's name first, then those of clouds, then those of proxies in front of a server.
_REQUEST_ID_FIELDS = (
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "apim-request-id",
    "x-ms-request-id",
    "x-goog-request-id",
    "x-correlation-id",
    "x-trace-id",
    "cf-ray",
)


class Headers(Mapping[str, str]):
    """Immutable mapping of header fields. Names are case-insensitive (RFC 9110, 5.1).

    The lines of a repeated field are joined with ", " (RFC 9110, 5.3); `get_list` returns
    them one by one. A missing field is a KeyError; `get` returns None or a default.
    """

    __slots__ = ("_block", "_known")

    def __init__(self, lines: Iterable[tuple[bytes | str, bytes | str]] = ()) -> None:
        # The lines as they came, if they are made into strings when they are asked for.
        self._block = b""
        self._known: tuple[tuple[str, str], ...] | None = _decoded(lines)

    @classmethod
    def of_block(cls, block: bytes) -> Headers:
        """Return the headers of a plain head's lines, each with its CRLF."""
        headers = cls.__new__(cls)
        headers._block = block
        headers._known = None
        return headers

    def raw_lines(self) -> list[tuple[bytes, bytes]]:
        """Return the names and values of a block as they came, in order."""
        return _LINE.findall(self._block)

    def pack(self) -> None:
        """Forget the strings made of a block; they are made anew when they are asked for.

        Of a typical head they take four times as much memory as the block.
        """
        if self._block:
            self._known = None

    @property
    def _lines(self) -> tuple[tuple[str, str], ...]:
        lines = self._known  # a local, as another thread may call `pack` at any time
        if lines is None:
            lines = self._known = _decoded(self.raw_lines())
        return lines

    def get_list(self, name: str) -> list[str]:
        """Return every line of this field in order of arrival; [] where there is none."""
        wanted = name.lower()
        return [value for key, value in self._known or self._lines if key == wanted]

    def __getitem__(self, name: str) -> str:
        values = self.get_list(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    # Mapping's own raise and catch a KeyError for each field that is missing (2 % of a request,
    # as most of those that are looked for are).

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str) -> str: ...
    @overload
    def get(self, name: str, /, default: T) -> str | T: ...
    def get(self, name: str, /, default: object = None) -> object:
        """Return the value of this field; `default` where there is none."""
        values = self.get_list(name)
        return ", ".join(values) if values else default

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_list(name))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key for key, _ in self._lines))

    def __len__(self) -> int:
        return len({key for key, _ in self._lines})

    def __reduce__(self) -> tuple[type[Headers], tuple[tuple[tuple[str, str], ...]]]:
        return Headers, (self._lines,)

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"


def _decoded(lines: Iterable[tuple[bytes | str, bytes | str]]) -> tuple[tuple[str, str], ...]:
    # Header bytes above ASCII have no agreed charset; latin-1 preserves all of them. No
    # function for a field: there are a dozen of them in each response.
    return tuple(
        [
            (
                (name.decode("latin-1") if isinstance(name, bytes) else name).lower(),
                value.decode("latin-1") if isinstance(value, bytes) else value,
            )
            for name, value in lines
        ]
    )


def request_id(headers: Headers) -> str | None:
    """Return the server's id of the request from the first of its possible headers, or None."""
    return next((value for name in _REQUEST_ID_FIELDS if (value := headers.get(name))), None)
