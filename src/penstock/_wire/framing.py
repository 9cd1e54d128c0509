"""How the body of a response is delimited (RFC 9112, section 6), decided and read without I/O.

The three kinds of body share one interface: `feed(data)` returns the payload, `finished` is
true once the message has ended, `excess` holds the bytes after its end, and `eof()`, called
when the peer closed, returns whether the body is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from .chunked import ChunkedBody, FramingError
from .excerpt import one_line

__all__ = [
    "Body",
    "ChunkedBody",
    "CloseBody",
    "FramingError",
    "LengthBody",
    "body_framing",
    "keeps_alive",
]

# As h11: a number with more digits is an attack on its parser.
_LENGTH_DIGITS = 20
_BLANKS = " \t"


class LengthBody:
    """A body with a Content-Length (RFC 9112, section 6.2)."""

    __slots__ = ("_left", "excess", "finished")

    def __init__(self, length: int) -> None:
        self._left = length
        self.finished = length == 0
        self.excess = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes from the connection and return the payload in them."""
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            return data
        self._left = 0
        self.finished = True
        self.excess += data[left:]
        return data[:left]

    def eof(self) -> bool:
        """Return whether the body was complete when the peer closed (RFC 9112, section 8)."""
        return self.finished


class CloseBody:
    """A body that ends when the peer closes the connection (RFC 9112, section 6.3, rule 8)."""

    __slots__ = ("excess", "finished")

    def __init__(self) -> None:
        self.finished = False
        self.excess = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes from the connection; all of them are payload."""
        return data

    def eof(self) -> bool:
        """Return True: this body ends when the peer closes."""
        self.finished = True
        return True


Body: TypeAlias = ChunkedBody | LengthBody | CloseBody


def body_framing(*, method: bytes | str, status: int, headers: Mapping[str, str]) -> Body:
    """Return the decoder for a response's body, by the rules of RFC 9112, section 6.3, in order.

    Raises FramingError if the headers do not say clearly how the body is delimited.
    """
    # Rule 1. Rule 2 (CONNECT) does not apply here.
    head = "HEAD" if isinstance(method, str) else b"HEAD"  # comparing both is a BytesWarning
    if method == head or status < 200 or status in (204, 304):
        return LengthBody(0)
    # Rules 3 and 4. Requests have no TE, so a server must not use another coding.
    codings = headers.get("transfer-encoding")
    if codings is not None:
        if codings.strip(_BLANKS).lower() != "chunked":
            raise FramingError(f"a transfer coding other than chunked: {one_line(codings, 80)!r}")
        return ChunkedBody()
    # Rules 5 and 6: a repeated equal length is one length.
    lengths = headers.get("content-length")
    if lengths is not None:
        values = {value.strip(_BLANKS) for value in lengths.split(",")}
        length = values.pop()
        # isdecimal() alone accepts the digits of other scripts.
        if values or not (length.isascii() and length.isdecimal()) or len(length) > _LENGTH_DIGITS:
            raise FramingError(f"an invalid Content-Length: {one_line(lengths, 80)!r}")
        return LengthBody(int(length))
    return CloseBody()  # rule 8; rule 7 is for requests


def keeps_alive(http_version: bytes, headers: Mapping[str, str], framing: Body) -> bool:
    """Return whether the connection may serve another request (RFC 9112, section 9.3).

    HTTP/1.0's keep-alive is not used. Content-Length beside Transfer-Encoding suggests response
    splitting; section 6.1 asks to close after such a message.
    """
    if not http_version.endswith(b"1.1") or isinstance(framing, CloseBody):
        return False
    if "transfer-encoding" in headers and "content-length" in headers:
        return False
    options = headers.get("connection")
    return options is None or "close" not in [
        option.strip(_BLANKS) for option in options.lower().split(",")
    ]
