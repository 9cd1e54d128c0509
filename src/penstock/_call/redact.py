"""Keeps the API key and other credentials out of errors, also when a server echoes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeGuard, TypeVar

from .._wire.credentials import cover_all
from .._wire.json_values import is_list, is_object
from ..errors import PenstockError
from ..headers import Headers

__all__ = ["redact_error", "redact_text"]

E = TypeVar("E", bound=PenstockError)
Mask: TypeAlias = Callable[[str], str]

MASK = "[redacted]"


def redact_error(error: E, *secrets: str | None) -> E:
    """The same error, every occurrence of a secret in it and in its causes masked."""
    mask = cover_all(secrets, _mask)
    if mask is not None:
        seen: set[int] = set()
        chain: list[BaseException | None] = [error]
        while chain:
            link = chain.pop()
            if link is None or id(link) in seen:
                continue
            seen.add(id(link))
            _redact_attributes(link, mask)
            # A traceback shows them all.
            chain += [link.__cause__, link.__context__]
    return error


def redact_text(text: str, *secrets: str | None) -> str:
    """The text, every occurrence of a secret in it masked."""
    mask = cover_all(secrets, _mask)
    return text if mask is None else mask(text)


def _mask(found: str) -> str:
    return MASK


def _redact_attributes(error: BaseException, mask: Mask) -> None:
    error.args = tuple(_redact(value, mask) for value in error.args)
    for name, value in vars(error).items():
        if name != "partial":
            setattr(error, name, _redact(value, mask))
    if isinstance(error, OSError):
        # The text of an operating system's error is made of these, not of its args.
        if isinstance(error.strerror, str):
            error.strerror = _redact(error.strerror, mask)
        if isinstance(error.filename, (str, bytes)):
            error.filename = _redact(error.filename, mask)
    if isinstance(error, UnicodeError):
        # It keeps what it was to decode, whatever its args are. Python shows one character of
        # it at most.
        for name in ("object", "reason"):
            if hasattr(error, name):
                setattr(error, name, _redact(getattr(error, name), mask))


def _redact(value: Any, mask: Mask) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, (bytes, bytearray)):
        return mask(value.decode("latin-1")).encode("latin-1")
    if is_object(value):
        return {_redact(name, mask): _redact(item, mask) for name, item in value.items()}
    if is_list(value):
        return [_redact(item, mask) for item in value]
    if _is_tuple(value):
        return tuple(_redact(item, mask) for item in value)
    if isinstance(value, Headers):
        return Headers(
            (_redact(name, mask), _redact(line, mask))
            for name in value
            for line in value.get_list(name)
        )
    return value


def _is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)
