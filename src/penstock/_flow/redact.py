"""Keeps the API key out of errors, also when a server echoes it."""

from __future__ import annotations

import html
import json
import re
import urllib.parse
from typing import Any, TypeGuard, TypeVar

from .._wire.lenient_values import is_list, is_object
from ..errors import PenstockError
from ..headers import Headers

__all__ = ["redact_error"]

E = TypeVar("E", bound=PenstockError)

MASK = "[redacted]"
# Below this length a "key" (local servers take any word) would turn up in innocent text.
SHORTEST_KEY = 8


def redact_error(error: E, key: str | None) -> E:
    """The same error, every occurrence of the key in it and in its causes masked."""
    if key is not None and len(key) >= SHORTEST_KEY:
        pattern = _pattern(key)
        seen: set[int] = set()
        chain: list[BaseException | None] = [error]
        while chain:
            link = chain.pop()
            if link is None or id(link) in seen:
                continue
            seen.add(id(link))
            _redact_attributes(link, pattern)
            # A traceback shows them all.
            chain += [link.__cause__, link.__context__]
    return error


def _pattern(key: str) -> re.Pattern[str]:
    """Matches the key as texts, JSON, pages and addresses spell it, or its beginning at an end."""
    in_json = json.dumps(key)[1:-1]
    spellings = {
        key,
        in_json,
        in_json.replace("/", "\\/"),
        html.escape(key),
        urllib.parse.quote(key, safe=""),
    }
    whole = "|".join(map(re.escape, sorted(spellings, key=len, reverse=True)))
    # An excerpt may end inside of the key.
    begun = "|".join(re.escape(key[:end]) for end in range(len(key) - 1, SHORTEST_KEY - 1, -1))
    cut = rf"|(?:{begun})(?=(?:\.\.\.)?\Z)" if begun else ""
    # Names of headers come in lower case.
    return re.compile(whole + cut, re.IGNORECASE)


def _redact_attributes(error: BaseException, pattern: re.Pattern[str]) -> None:
    error.args = tuple(_redact(value, pattern) for value in error.args)
    for name, value in vars(error).items():
        if name != "partial":
            setattr(error, name, _redact(value, pattern))
    if isinstance(error, OSError):
        # The text of an operating system's error is made of these, not of its args.
        if isinstance(error.strerror, str):
            error.strerror = _redact(error.strerror, pattern)
        if isinstance(error.filename, (str, bytes)):
            error.filename = _redact(error.filename, pattern)


def _redact(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(MASK, value)
    if isinstance(value, bytes):
        return pattern.sub(MASK, value.decode("latin-1")).encode("latin-1")
    if is_object(value):
        return {_redact(name, pattern): _redact(item, pattern) for name, item in value.items()}
    if is_list(value):
        return [_redact(item, pattern) for item in value]
    if _is_tuple(value):
        return tuple(_redact(item, pattern) for item in value)
    if isinstance(value, Headers):
        return Headers(
            (_redact(name, pattern), _redact(line, pattern))
            for name in value
            for line in value.get_list(name)
        )
    return value


def _is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)
