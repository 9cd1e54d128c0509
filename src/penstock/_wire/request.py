"""What goes out: checked before any I/O, encoded once.

Anything that could break out of its place in the request (control characters in a
header, a key or a URL) is refused here, with an error that never shows a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import msgspec

from .url import has_controls

__all__ = [
    "checked_headers",
    "checked_key",
    "completion_body",
    "encode_json",
]

# RFC 9110, 5.6.2 (token) and 5.5 (field values: visible ASCII, blanks, obs-text).
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_KEY = re.compile(r"[\x21-\x7e]+")
# The connection's own business.
_RESERVED = frozenset({"connection", "content-length", "host", "transfer-encoding", "upgrade"})


def checked_key(key: object) -> str:
    """An API key as it may stand in a header; errors never show it."""
    if not isinstance(key, str):
        raise TypeError(f"the API key has to be a string, not {type(key).__name__}")
    if not _KEY.fullmatch(key):
        raise ValueError(
            "the API key is empty or contains blanks, control or non-ASCII characters"
            " (a line break from a file, perhaps)"
        )
    return key


def checked_headers(headers: Mapping[str, str] | None) -> dict[str, tuple[bytes, bytes]]:
    """The caller's headers by lower-case name, as they go out."""
    checked: dict[str, tuple[bytes, bytes]] = {}
    given: Any = headers or {}
    if not _is_mapping(given):
        raise TypeError(f"headers have to be a mapping, not {type(given).__name__}")
    for number, (name, value) in enumerate(given.items(), 1):
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            # It is not shown: it may be a whole line, with a key.
            raise ValueError(
                f"name {number} of {len(given)} is no name of a header: it is a string of"
                " letters, digits and -, without blanks or a colon"
            )
        if name.lower() in _RESERVED:
            raise ValueError(f"the header {name} is set by the connection itself")
        if not isinstance(value, str) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError(
                f"the value of the header {name} has to be a string without control characters"
            )
        checked[name.lower()] = (name.encode("ascii"), value.strip().encode("latin-1"))
    return checked


def completion_body(
    model: object, messages: Any, params: Mapping[str, Any], *, stream: bool
) -> bytes:
    """The JSON body of a completion; every further parameter goes in as it is.

    ValueError when model or messages are empty, or the model's name has control characters;
    TypeError when something cannot be JSON.
    """
    if model is None or model == "":
        raise ValueError("model is empty: name one, for instance from client.models.list()")
    if not isinstance(model, str):
        raise TypeError(f"model has to be a string, not {type(model).__name__}")
    # JSON would carry them, but servers put the name into paths and logs, and no model has one.
    if has_controls(model):
        raise ValueError("model contains control characters (a line break from a file, perhaps)")
    if messages is None:
        messages = ()
    if isinstance(messages, (str, bytes, Mapping)) or not _is_iterable(messages):
        raise TypeError(
            "messages has to be a list of messages, for instance"
            ' [{"role": "user", "content": "..."}]'
        )
    listed = list(messages)
    if not listed:
        raise ValueError("messages is empty: give at least one message")
    body: dict[str, Any] = {"model": model, "messages": listed, **params}
    if stream:
        body["stream"] = True
    return encode_json(body)


def encode_json(value: object) -> bytes:
    """JSON text; mappings, dataclasses, msgspec Structs and Pydantic models are objects.

    So is what has a method `for_json`, as simplejson calls it: a `penstock.Tool`.
    """
    try:
        return _encoder.encode(value)
    except TypeError as error:
        raise TypeError(f"the request cannot be written as JSON: {error}") from None
    except RecursionError:
        raise ValueError("the request is nested too deeply, or contains itself") from None
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the request contains a lone surrogate ({error.reason}): it is not valid Unicode"
        ) from None


def _further(value: Any) -> Any:
    # By its method, so that Pydantic is neither needed nor imported.
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True)
    if _is_mapping(value):
        return dict(value)
    if hasattr(value, "for_json"):
        return value.for_json()
    raise TypeError(f"objects of type {type(value).__name__} are not supported")


def _is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_iterable(value: Any) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Iterable)


_encoder = msgspec.json.Encoder(enc_hook=_further)
