"""The head of a plain response, read without I/O.

Plain is what nearly every head is: a strict part of RFC 9112, for which h11 gives the same. What
is not plain is None here, and httpcore with h11 reads or refuses it. A plain head costs two
searches in place of h11's events and states (a fifth of a whole answer's time).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..headers import lines_in

__all__ = ["ResponseHead", "plain_response"]

# Possessive, so that a head that does not fit is found out in linear time.
_RESPONSE = re.compile(
    rb"(HTTP/1\.1) ([2-5][0-9][0-9])(?: ([ -~]*+))?\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[ -~]*+\r\n)*+)\r\n"
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
