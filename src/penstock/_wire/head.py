"""The heads of plain requests and responses, written and read without I/O.

Plain is what nearly every head is: a strict part of RFC 9112, for which h11 gives the same. What
is not plain is None here, and httpcore with h11 writes, reads or refuses it. Reading a plain head
costs two searches in place of h11's events and states (a fifth of a whole answer's time).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..headers import lines_in

__all__ = ["ResponseHead", "plain_request", "plain_response"]

# Possessive, so that a head that does not fit is found out in linear time.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_REQUEST = re.compile(
    rb"[A-Z]++ [!-~]++ HTTP/1\.1\r\n(?:" + _TOKEN + rb": (?:[!-~\x80-\xff]++[ \t]*+(?!\r))*+"
    rb"[!-~\x80-\xff]*+\r\n)++\r\n"
)
_RESPONSE = re.compile(
    rb"(HTTP/1\.1) ([2-5][0-9][0-9])(?: ([ -~]*+))?\r\n((?:" + _TOKEN + rb":[ -~]*+\r\n)*+)\r\n"
)
_LENGTH = re.compile(rb"[0-9]{1,20}")


class ResponseHead(NamedTuple):
    """The head of a final response."""

    status: int
    """Its status."""
    lines: list[tuple[bytes, bytes]]
    """Its header lines as they came, in order."""
    version: bytes
    """For instance b"HTTP/1.1"."""
    reason: bytes
    """What the status line says after the status, perhaps nothing."""
    block: bytes = b""
    """The header lines of a plain head as they came, each with its CRLF."""


def plain_request(
    method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> bytes | None:
    """Return a request as it is sent; None if it is not plain.

    Plain is a Host in front, and a Content-Length that is that of the body.
    """
    names = [name.lower() for name, _ in headers]
    if not names or names[0] != b"host" or names.count(b"host") != 1:
        return None
    if b"transfer-encoding" in names:
        return None
    if b"content-length" in names:
        said = headers[names.index(b"content-length")][1]
        if names.count(b"content-length") != 1 or said != b"%d" % len(body):
            return None
    elif body:
        return None
    lines = b"".join([b"%b: %b\r\n" % line for line in headers])
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), target.encode(), lines)
    # One line for each field, so that none has smuggled in another.
    whole = head.count(b"\n") == len(headers) + 2 and _REQUEST.fullmatch(head)
    return head + body if whole else None


def plain_response(head: bytes) -> ResponseHead | None:
    """Return what a whole head of a response says; None if it is not plain or not whole."""
    found = _RESPONSE.fullmatch(head)
    if found is None or b" \r\n" in found[4]:  # blanks behind a value are rare
        return None
    _, status, reason, block = found.groups()
    lines = lines_in(block)
    framing: set[bytes] = set()
    for name, value in lines:
        # Only those two names are that long: most others are told apart by that alone.
        if len(name) in (14, 17) and (lower := name.lower()) in _FRAMING:
            if lower in framing or not _FRAMING[lower].fullmatch(value):
                return None
            framing.add(lower)
    # Both are kept as long as the response: the usual reason is one object for all of them.
    reason = _OK if reason == _OK else reason or b""
    return ResponseHead(int(status), lines, b"HTTP/1.1", reason, block)


_OK = b"OK"

_FRAMING = {
    b"content-length": _LENGTH,
    b"transfer-encoding": re.compile(b"chunked"),
}
