"""Rows as they are asked: a line or a `Request`, made into path, body and digest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NoReturn, TypeGuard

import msgspec

from .._wire.encode import encode_json
from .._wire.json_values import is_object
from .._wire.url import BaseURL
from .outcomes import json_bytes

__all__ = ["InvalidRow", "Params", "Request", "Row", "parse_line", "row_of", "row_of_line"]

LONGEST_INTEGER = 4300
"""Digits that Python reads."""
_DIGIT = re.compile(rb"[0-9]")
OURS = ("stream", "stream_options")
"""Members of a body that the run decides on."""


class InvalidRow(ValueError):
    """A line, or a request, that cannot be asked; the message says why."""

    def __init__(self, message: str, *, custom_id: str | None = None) -> None:
        super().__init__(message)
        self.custom_id: str | None = custom_id
        """The row's own id, if it could be read."""


class Request(msgspec.Struct, frozen=True):
    """One row of a job, with the members of OpenAI's Batch API."""

    custom_id: str
    """The row's own id, unique in the job."""
    body: Mapping[str, Any]
    """The request's JSON body, for instance {"model": ..., "messages": [...]}."""
    url: str = "/v1/chat/completions"
    """The endpoint; a leading /v1 is that of the base URL."""
    method: str = "POST"
    """The HTTP method."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row, ready to be sent."""

    custom_id: str
    """The row's own id."""
    path: str
    """The endpoint below the base URL."""
    body: bytes
    """The JSON text that is sent: what was given and the job's parameters, without `stream`."""
    id: str
    """Digest of path and body."""


class _Line(msgspec.Struct):
    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: msgspec.Raw = msgspec.Raw()


class Params:
    """Members that are put into every body, over what it has.

    TypeError or ValueError if they are not names and JSON values.
    """

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        given: Any = {} if params is None else params
        if not _is_mapping(given) or not all(isinstance(name, str) for name in given):
            raise TypeError("params must be a mapping of names to JSON values")
        self.members: dict[str, msgspec.Raw] = {
            name: msgspec.Raw(encode_json(value))
            for name, value in given.items()
            if name not in OURS
        }
        """JSON text by name."""

    def applied(self, body: bytes) -> tuple[bytes, bytes]:
        """Return the body as it is sent, and what its digest is made of, sorted JSON text.

        InvalidRow if it is not a JSON object.
        """
        value = _decoded(body)
        if not is_object(value):
            raise InvalidRow("the body is not a JSON object")
        if not self.members and not any(name in value for name in OURS):
            return body, _sorted(value)
        try:
            members = _RAW_MEMBERS.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            # What only the tolerant decoder reads is written anew.
            members = {name: msgspec.Raw(json_bytes(member)) for name, member in value.items()}
        for name in OURS:
            members.pop(name, None)
        members.update(self.members)
        body = _spelled(members)
        return body, _sorted(_decoded(body))


def parse_line(line: bytes) -> Request:
    """Return the request that one line of an input file spells. Raises InvalidRow if there is none.

    The line is `{"custom_id": ..., "method": "POST", "url": "/v1/...", "body": {...}}`; further
    members are ignored.
    """
    custom_id, url, body = _members(line)
    value = _decoded(body)
    if not is_object(value):
        raise InvalidRow("the body is not a JSON object", custom_id=custom_id)
    return Request(custom_id, value, url)


def row_of_line(line: bytes, params: Params) -> Row:
    """Return the row that one line spells. Raises InvalidRow."""
    custom_id, url, body = _members(line)
    return _row(custom_id, url, body, params)


def row_of(request: Request, params: Params) -> Row:
    """Return the row that a request spells. Raises InvalidRow."""
    custom_id: Any = request.custom_id
    if not isinstance(custom_id, str) or not custom_id:
        raise InvalidRow("custom_id must be a string that is not empty")
    _check_method(request.method, custom_id)
    checked_path(request.url, custom_id)
    if not _is_mapping(request.body):
        raise InvalidRow("the body is not a JSON object", custom_id=custom_id)
    try:
        body = encode_json(dict(request.body))
    except (TypeError, ValueError) as error:
        raise InvalidRow(str(error), custom_id=custom_id) from None
    return _row(custom_id, request.url, body, params)


def check_line(line: bytes) -> tuple[str, str, bytes]:
    """Return custom_id, url and body of a line that can be asked. Raises InvalidRow."""
    return _members(line)


def invalid_id(line: bytes) -> str:
    """Return the digest that stands for a line that is not a row."""
    return _digest(line)


def _path_of(url: str) -> str:
    return url[3:] if url.startswith("/v1/") else url


def checked_path(url: object, custom_id: str | None) -> str:
    """Return the path of a row's url below the base URL. Raises InvalidRow."""
    if not isinstance(url, str) or not url.startswith("/"):
        raise InvalidRow(
            'url must begin with "/", for instance "/v1/chat/completions"', custom_id=custom_id
        )
    path = _path_of(url)
    if path not in _known_paths:
        try:
            _ANY_BASE.target(path)
        except (TypeError, ValueError, UnicodeError) as error:
            raise InvalidRow(f"url: {error}", custom_id=custom_id) from None
        if not path.strip("/"):
            raise InvalidRow("url names no endpoint", custom_id=custom_id)
        if len(_known_paths) < 64:
            _known_paths.add(path)
    return path


_known_paths: set[str] = set()
_ANY_BASE = BaseURL.parse("http://localhost")


def _row(custom_id: str, url: str, body: bytes, params: Params) -> Row:
    path = _path_of(url)
    try:
        effective, canonical = params.applied(body)
    except InvalidRow as error:
        error.custom_id = custom_id
        raise
    return Row(custom_id, path, effective, _digest(path.encode() + b"\n" + canonical))


def _members(line: bytes) -> tuple[str, str, bytes]:
    """Return custom_id, url and body of a line. Raises InvalidRow."""
    try:
        if not line.isascii():
            line.decode("utf-8")  # msgspec skips strings unread
        parsed = _LINE.decode(line)
    except UnicodeDecodeError as error:
        raise InvalidRow(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        parsed = _tolerant_line(line)
    custom_id = parsed.custom_id
    if not isinstance(custom_id, str) or not custom_id:
        missing = custom_id is None
        raise InvalidRow(
            "custom_id is missing" if missing else "custom_id must be a string that is not empty"
        )
    _check_method(parsed.method, custom_id)
    checked_path(parsed.url, custom_id)
    body = bytes(parsed.body)
    if body[:1] != b"{":
        raise InvalidRow(
            "the body is not a JSON object" if body else "body is missing", custom_id=custom_id
        )
    if len(body) > LONGEST_INTEGER and _DIGIT.search(body[LONGEST_INTEGER :: LONGEST_INTEGER + 1]):
        # Only there can be a run of more digits, and msgspec skips numbers unread.
        try:
            _decoded(body)
        except InvalidRow as error:
            error.custom_id = custom_id
            raise
    return custom_id, parsed.url, body


def _tolerant_line(line: bytes) -> _Line:
    """Read a line that msgspec refuses: lone surrogates, for instance, are JSON. InvalidRow."""
    found = _decoded(line)
    if not is_object(found):
        raise InvalidRow("not a JSON object")
    body = msgspec.Raw(json_bytes(found["body"])) if "body" in found else msgspec.Raw()
    return _Line(found.get("custom_id"), found.get("method"), found.get("url"), body)


def _check_method(method: object, custom_id: str) -> None:
    if method != "POST":
        wrong = "missing" if method is None else f"{method!r:.40}"
        raise InvalidRow(f'method must be "POST", not {wrong}', custom_id=custom_id)


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as refused:
        try:
            return json.loads(text, parse_constant=_refuse)
        except RecursionError:
            raise InvalidRow("the JSON is nested too deeply") from None
        except (json.JSONDecodeError, UnicodeError, _NotJSON):
            raise InvalidRow(f"not JSON: {refused}") from None
        except ValueError:
            raise InvalidRow(
                f"an integer has more digits than can be read, {LONGEST_INTEGER}"
            ) from None


class _NotJSON(ValueError):
    """A number that JSON lacks."""


def _refuse(constant: str) -> NoReturn:
    raise _NotJSON(constant)


def _spelled(members: Mapping[str, msgspec.Raw]) -> bytes:
    """Return a JSON object of members that are JSON text."""
    try:
        return msgspec.json.encode(members)
    except UnicodeEncodeError:  # a lone surrogate in a name
        return b"{%b}" % b",".join(
            b"%b:%b" % (json_bytes(name), bytes(text)) for name, text in members.items()
        )


def _sorted(value: Any) -> bytes:
    try:
        return _SORTED.encode(value)
    except (UnicodeEncodeError, RecursionError):
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def _digest(text: bytes) -> str:
    return "penstock-" + blake2b(text, digest_size=12).hexdigest()


def _is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


_LINE = msgspec.json.Decoder(_Line)
_RAW_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SORTED = msgspec.json.Encoder(order="sorted")
