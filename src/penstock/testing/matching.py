"""Which recording answers a request: by method, target and body, as JSON where it is JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._typed.members import is_list, is_object

if TYPE_CHECKING:
    from .script import RecordedRequest

_SHOWN = 60  # characters of a value
_BOUNDARY = re.compile(rb"multipart/[^;]*;.*boundary=\"?([^\";,]+)", re.I)


def origin_form(target: str) -> str:
    """Return a target as a server sees it; a proxy is sent the whole URL."""
    if not target.lower().startswith(("http://", "https://")):
        return target
    parts = urlsplit(target)
    return parts._replace(scheme="", netloc="", path=parts.path or "/").geturl()


def default_match(request: RecordedRequest) -> tuple[str, str, Any]:
    """Return what must be the same: method, target, and the body, decoded if it is JSON."""
    return request.method, request.target, _content(request)


def key_of(matched: object) -> str:
    """Return a text that is the same for the same JSON, whatever the order of its members."""
    return json.dumps(matched, sort_keys=True, default=repr)


def json_of(body: bytes) -> Any:
    """Return a body decoded from JSON. ValueError if it is not JSON, or too deep to write."""
    try:
        value = json.loads(body)
        json.dumps(value, ensure_ascii=False).encode()  # fails for lone surrogates
    except RecursionError as error:
        raise ValueError("too deep") from error
    return value


def differences(recorded: RecordedRequest, sent: RecordedRequest) -> list[str]:
    """Return in words where two requests differ; more differences, more words."""
    found: list[str] = []
    for name, one, other in (
        ("method", recorded.method, sent.method),
        ("target", recorded.target, sent.target),
    ):
        if one != other:
            found.append(f"{name} is {_shown(other, one)}, recorded {_shown(one, other)}")
    found += _differences("", _content(recorded), _content(sent))
    return found


def nearest(
    recorded: Sequence[RecordedRequest], sent: RecordedRequest
) -> tuple[int, list[str]] | None:
    """Return the number of the most similar request, and where it differs; None without any."""
    best: tuple[int, list[str]] | None = None
    for number, request in enumerate(recorded):
        found = differences(request, sent)
        if best is None or len(found) < len(best[1]):
            best = (number, found)
    return best


def _content(request: RecordedRequest) -> Any:
    try:
        return json_of(request.body)
    except ValueError:
        body = request.body
        # Multipart forms have another boundary each time.
        for name, value in request.raw_headers:
            if name.lower() == b"content-type" and (found := _BOUNDARY.match(value)):
                body = body.replace(found[1], b"boundary")
        return body.decode("latin-1")


def _differences(path: str, one: Any, other: Any) -> Iterator[str]:
    if is_object(one) and is_object(other):
        for name in {**one, **other}:
            place = f"{path}.{name}" if path else name
            if name not in other:
                yield f"{place} is missing, recorded {_shown(one[name])}"
            elif name not in one:
                yield f"{place} is {_shown(other[name])}, not recorded"
            else:
                yield from _differences(place, one[name], other[name])
    elif is_list(one) and is_list(other):
        for number in range(min(len(one), len(other))):
            yield from _differences(f"{path}[{number}]", one[number], other[number])
        if len(one) != len(other):
            yield f"{path or 'the body'} has {len(other)} items, recorded {len(one)}"
    elif key_of(one) != key_of(other):
        place = path or "the body"
        yield f"{place} is {_shown(other, one)}, recorded {_shown(one, other)}"


def _shown(value: Any, beside: Any = None) -> str:
    """Return a value in a few words; of a long text the part where it differs from `beside`."""
    if not isinstance(value, str):
        text = json.dumps(value)
        return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    start = 0
    if len(value) > _SHOWN and isinstance(beside, str):
        same = next(
            (i for i, (a, b) in enumerate(zip(value, beside, strict=False)) if a != b),
            min(len(value), len(beside)),
        )
        start = max(0, min(same - _SHOWN // 3, len(value) - _SHOWN))
    part = value[start : start + _SHOWN]
    before, after = "..." * (start > 0), "..." * (start + _SHOWN < len(value))
    return before + json.dumps(part, ensure_ascii=False) + after
