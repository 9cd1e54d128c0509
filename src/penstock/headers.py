"""Response headers as a value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, overload

__all__ = ["Headers"]

T = TypeVar("T")


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

    __slots__ = ("_lines",)

    def __init__(self, lines: Iterable[tuple[bytes | str, bytes | str]] = ()) -> None:
        # Header bytes above ASCII have no agreed charset; latin-1 preserves all of them. No
        # function for a field: there are a dozen of them in each response.
        self._lines = tuple(
            [
                (
                    (name.decode("latin-1") if isinstance(name, bytes) else name).lower(),
                    value.decode("latin-1") if isinstance(value, bytes) else value,
                )
                for name, value in lines
            ]
        )

    def get_list(self, name: str) -> list[str]:
        """Return every line of this field in order of arrival; [] where there is none."""
        wanted = name.lower()
        return [value for key, value in self._lines if key == wanted]

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


def request_id(headers: Headers) -> str | None:
    """Return the server's id of the request from the first of its possible headers, or None."""
    return next((value for name in _REQUEST_ID_FIELDS if (value := headers.get(name))), None)
