"""Keeps credentials out of recordings, also where the server repeats them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .._wire.credentials import (
    cover_all,
    header_secrets,
    names_a_credential,
    shown_target,
    target_secrets,
)
from .cuts import head_size, payload_places
from .transcript import Exchange, Segment

if TYPE_CHECKING:
    from .script import RecordedRequest
    from .tape import Tape

LEFT_OUT = "[left out]"

_SEARCHED = 64 * 1024 * 1024
"""Bytes of a compressed answer, unpacked, that are searched for secrets."""

_SET_COOKIE = re.compile(rb"(?<=\nset-cookie:)[^\r\n]*", re.I)
_CODING = re.compile(rb"\ncontent-encoding:[ \t]*([^\r\n]*)", re.I)


def exchange_of(
    tape: Tape, *, bodies: bool, credentials: bool = False, more: Iterable[str] = ()
) -> Exchange:
    """Return what is on a tape; an answer in flight ends as if the client had left.

    `more`: other texts to cover, besides the credentials.
    """
    request, segments = tape.request, tape.segments
    if not credentials:
        secrets = secrets_of(request, more)
        request = hidden(request, secrets)
        segments = _overwritten(segments, cover_all(secrets, lambda found: "x" * len(found)))
    return Exchange(
        method=request.method,
        target=request.target,
        headers=tuple(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers
        ),
        body=request.body if bodies else None,
        segments=tuple(segments),
        end=tape.end or "client closed",
        ended_at=tape.ended_at if tape.end is not None else segments[-1].at if segments else 0.0,
    )


def secrets_of(request: RecordedRequest, more: Iterable[str] = ()) -> list[str]:
    """Return the credentials in a request, and `more`."""
    return [*header_secrets(request.raw_headers), *target_secrets(request.target), *more]


def hidden(request: RecordedRequest, secrets: Iterable[str]) -> RecordedRequest:
    """Return the request without its credentials, and without these secrets."""
    erase = cover_all(secrets, lambda _: LEFT_OUT) or str
    raw = [
        (
            name,
            LEFT_OUT.encode() if names_a_credential(name) else _erased(erase, value),
        )
        for name, value in request.raw_headers
    ]
    return replace(
        request,
        target=erase(shown_target(request.target, LEFT_OUT)),
        headers={
            name: LEFT_OUT if names_a_credential(name.encode("latin-1")) else erase(value)
            for name, value in request.headers.items()
        },
        body=_erased(erase, request.body),
        raw_headers=tuple(raw),
    )


def _erased(erase: Callable[[str], str], data: bytes) -> bytes:
    return erase(data.decode("latin-1")).encode("latin-1")


def _overwritten(segments: Sequence[Segment], cover: Callable[[str], str] | None) -> list[Segment]:
    """Overwrite each byte of a secret with an x, also across segments and chunks."""
    data = bytearray().join(segment.data for segment in segments)
    try:
        size, places = head_size(data), payload_places(data)
    except ValueError:  # no whole head
        size, places = len(data), []
    data[:size] = _SET_COOKIE.sub(lambda found: b"x" * len(found[0]), data[:size])
    if cover is not None:
        for region in ([(0, len(data))], places):
            text = b"".join(data[start:end] for start, end in region).decode("latin-1")
            covered = cover(text).encode("latin-1")
            for start, end in region:
                data[start:end], covered = covered[: end - start], covered[end - start :]
    if _hides_something(bytes(data[:size]), b"".join(data[a:b] for a, b in places), cover):
        for start, end in places:
            data[start:end] = b"x" * (end - start)
    result: list[Segment] = []
    start = 0
    for segment in segments:
        result.append(Segment(segment.at, bytes(data[start : start + len(segment.data)])))
        start += len(segment.data)
    return result


def _hides_something(head: bytes, body: bytes, cover: Callable[[str], str] | None) -> bool:
    """Return whether a body is compressed, and a secret in it or a search of it impossible."""
    found = _CODING.search(head)
    coding = b"" if found is None else found[1].strip().lower()
    if coding in (b"", b"identity"):
        return False
    if coding not in (b"gzip", b"x-gzip", b"deflate"):
        return True
    try:
        # 32: gzip or zlib, whichever it is.
        reader = zlib.decompressobj(zlib.MAX_WBITS | 32)
        text = reader.decompress(body, _SEARCHED).decode("latin-1")
    except zlib.error:
        return True
    if reader.unconsumed_tail:  # a bomb, perhaps
        return True
    return cover is not None and cover(text) != text
