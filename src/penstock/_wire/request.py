"""The head and the body of a request: checked before any I/O, encoded once.

Anything that could break out of its place in the request (control characters in a
header, a key or a URL) is refused here, with an error that never shows a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from penstock._version import __version__

from .encode import encode_json
from .history import outgoing_messages
from .json_values import is_list
from .parameters import body_members
from .request_head import RequestHead
from .url import BaseURL, has_controls

__all__ = [
    "RequestHeaders",
    "checked_headers",
    "checked_key",
    "checked_model",
    "completion_body",
    "text_completion_body",
]

HeaderFields = dict[str, tuple[bytes, bytes]]
"""Name and value of header fields, by their lower-case names."""

# RFC 9110, 5.6.2 (token) and 5.5 (field values: visible ASCII, blanks, obs-text).
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_KEY = re.compile(r"[\x21-\x7e]+")
# Set by the connection itself.
_RESERVED = frozenset({"connection", "content-length", "host", "transfer-encoding", "upgrade"})


def checked_key(key: object) -> str:
    """Return an API key that is safe in a header. Errors never show it."""
    kind = type(key)
    if isinstance(key, str) and _KEY.fullmatch(key):
        return key
    # Tools that report crashes show the variables of every frame.
    is_text = isinstance(key, str)
    del key
    if not is_text:
        raise TypeError(f"the API key must be a string, not {kind.__name__}")
    raise ValueError(
        "the API key is empty or contains blanks, control or non-ASCII characters"
        " (a line break from a file, perhaps)"
    )


class RequestHeaders:
    """The header fields that all requests of one client share.

    A call's own headers override the client's, and those override the library's.
    """

    __slots__ = ("_library", "_own")

    def __init__(self, base_url: BaseURL, headers: Mapping[str, str] | None) -> None:
        self._library: HeaderFields = {
            "host": (b"Host", base_url.origin.authority.encode("ascii")),
            "user-agent": (b"User-Agent", f"penstock/{__version__}".encode("ascii")),
            # Compressed tokens arrive in blocks, not as they are generated.
            "accept-encoding": (b"Accept-Encoding", b"identity"),
        }
        self._own = checked_headers(headers)

    def merged(self, headers: Mapping[str, str] | None) -> RequestHeaders:
        """Return the same with more headers, which replace those of the same name."""
        merged = RequestHeaders.__new__(RequestHeaders)
        merged._library = self._library
        merged._own = {**self._own, **checked_headers(headers)}
        return merged

    def head(
        self,
        method: str,
        target: str,
        *,
        accept: bytes,
        content_type: bytes,
        has_body: bool,
        chunked: bool = False,
        extra: Mapping[str, str] | None = None,
    ) -> RequestHead:
        """Return the head of one request, without its API key.

        `has_body`: its length follows. `chunked`: the body comes in pieces, and nobody knows it.
        """
        # First, so that no error has the client's own headers in this frame.
        checked = checked_headers(extra)
        fields = {**self._library, "accept": (b"Accept", accept)}
        if has_body:
            fields["content-type"] = (b"Content-Type", content_type)
        fields.update(self._own)
        fields.update(checked)
        if chunked:
            fields["transfer-encoding"] = (b"Transfer-Encoding", b"chunked")
        measured = not chunked and (has_body or method not in ("GET", "HEAD", "DELETE"))
        return RequestHead(method, target, list(fields.values()), measured=measured)


def checked_headers(headers: Mapping[str, str] | None) -> HeaderFields:
    """Return the caller's headers, ready to be sent. Errors never show a value."""
    checked: HeaderFields = {}
    given: Any = headers or {}
    if not _is_mapping(given):
        raise TypeError(f"headers must be a mapping, not {type(given).__name__}")
    for number, (name, value) in enumerate(given.items(), 1):
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            # The name is not shown: it may be a whole line, with a key.
            raise ValueError(
                f"header name {number} of {len(given)} is not valid: it must be a string of"
                " letters, digits and -, without blanks or a colon"
            )
        if name.lower() in _RESERVED:
            raise ValueError(f"the header {name} is set by the connection itself")
        if not isinstance(value, str) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError(
                f"the value of the header {name} must be a string without control characters"
            )
        checked[name.lower()] = (name.encode("ascii"), value.strip(" \t").encode("latin-1"))
    return checked


def completion_body(
    model: object,
    messages: Any,
    params: Mapping[str, Any],
    *,
    stream: bool,
    provider: str | None = None,
) -> bytes:
    """Return the JSON body of a completion request; further parameters go in unchanged.

    Messages of earlier answers go in as the provider of that name wants them.
    ValueError if model or messages are empty, or the model's name has control characters;
    and the errors of `body_members` and `encode_json`.
    """
    model = checked_model(model)
    listed = messages if is_list(messages) else _listed(messages)
    if not listed:
        raise ValueError("messages is empty: give at least one message")
    members = body_members(params, stream=stream)
    listed = outgoing_messages(listed, provider)
    return encode_json({"model": model, "messages": listed, **members})


def _listed(messages: Any) -> list[Any]:
    if messages is None:
        return []
    if isinstance(messages, (str, bytes, Mapping)) or not _is_iterable(messages):
        raise TypeError(
            'messages must be a list of messages, for instance [{"role": "user", "content": "..."}]'
        )
    return list(messages)


def text_completion_body(
    model: object, prompt: Any, params: Mapping[str, Any], *, stream: bool
) -> bytes:
    """Return the JSON body of a text completion request; further parameters go in unchanged.

    `prompt` is a text, a list of texts, a list of token ids, or a list of such lists. ValueError
    if model or prompt are empty, and the errors of `body_members` and `encode_json`.
    """
    model = checked_model(model)
    prompt = listed_prompt(prompt)
    if not prompt:
        raise ValueError("prompt is empty: give a text, or at least one of a list")
    members = body_members(params, stream=stream)
    return encode_json({"model": model, "prompt": prompt, **members})


def listed_prompt(prompt: Any) -> str | list[Any]:
    """Return a prompt as a text or a list; TypeError if it is neither."""
    if isinstance(prompt, str):
        return prompt
    if not _is_iterable(prompt) or isinstance(prompt, (bytes, bytearray, Mapping)):
        raise TypeError("prompt must be a text, a list of texts, or a list of token ids")
    return list(prompt)


def checked_model(model: object) -> str:
    """Return the name of a model; ValueError if it is empty or has control characters."""
    if model is None:
        model = ""
    if not isinstance(model, str):
        raise TypeError(f"model must be a string, not {type(model).__name__}")
    if not model:
        raise ValueError("model is empty: name one, for instance from client.models.list()")
    # JSON can carry them, but servers put the name into paths and logs, and no model has any.
    if has_controls(model):
        raise ValueError("model contains control characters (a line break from a file, perhaps)")
    return model


def _is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_iterable(value: Any) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Iterable)
