"""Keeps the API key and other credentials out of errors, also when a server echoes them."""

from __future__ import annotations

import html
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeGuard, TypeVar

from .._wire.lenient_values import is_list, is_object
from ..errors import PenstockError
from ..headers import Headers

__all__ = ["header_secrets", "redact_error", "redact_text"]

E = TypeVar("E", bound=PenstockError)
Mask: TypeAlias = Callable[[str], str]

MASK = "[redacted]"
# Below this length a "key" (local servers take any word) would turn up in innocent text.
SHORTEST_KEY = 8

# Whatever a server or a gateway calls the header: authorization, x-api-key, cf-access-token ...
_SECRET_HEADER = re.compile(rb"auth|cookie|credential|key|password|secret|signature|token", re.I)


def redact_error(error: E, *secrets: str | None) -> E:
    """The same error, every occurrence of a secret in it and in its causes masked."""
    mask = _mask_of_all(secrets)
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
    mask = _mask_of_all(secrets)
    return text if mask is None else mask(text)


def header_secrets(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """What these headers of a request hold that no error may show."""
    values = [value.decode("latin-1") for name, value in headers if _SECRET_HEADER.search(name)]
    # Behind a scheme, as in "Bearer sk-...", the secret comes back without it.
    return values + [value.rpartition(" ")[2] for value in values]


def _mask_of_all(secrets: Iterable[str | None]) -> Mask | None:
    found = {secret for secret in secrets if secret is not None and len(secret) >= SHORTEST_KEY}
    # One may be a part of another: the whole comes first.
    masks = [_mask(secret) for secret in sorted(found, key=len, reverse=True)]

    def mask(text: str) -> str:
        for each in masks:
            text = each(text)
        return text

    return mask if masks else None


def _mask(key: str) -> Mask:
    """Masks the key as text, JSON, HTML, Python or an address spells it, or what a cut left."""
    in_json = json.dumps(key)[1:-1]
    spellings = {
        key,
        in_json,
        in_json.replace("/", "\\/"),
        # As Python shows text and bytes that have both kinds of quotes.
        key.replace("\\", "\\\\").replace("'", "\\'"),
        html.escape(key),
        urllib.parse.quote(key, safe=""),
    }
    whole = "|".join(map(re.escape, sorted(spellings, key=len, reverse=True)))
    # An excerpt may end inside of the key.
    begun = rf"({re.escape(key[:SHORTEST_KEY])}\S{{0,{len(key)}}}?)(?=\.\.\.|\Z)"
    # Names of headers come in lower case.
    pattern = re.compile(f"{whole}|{begun}", re.IGNORECASE)
    lower = key.lower()

    def masked(match: re.Match[str]) -> str:
        cut = match[1]
        return MASK if cut is None or lower.startswith(cut.lower()) else match[0]

    return lambda text: pattern.sub(masked, text)


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
