"""How the body of a response is delimited (RFC 9112, section 6), decided and read without I/O.

The three kinds of body have one interface: `feed(data)` gives the payload, `finished` tells
that the message has ended, `excess` holds what came after its end, and `eof()`, called when
the peer closed politely, tells whether the body is complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from .chunked import ChunkedBody, FramingError
from .excerpt import one_line

if TYPE_CHECKING:
    from ..headers import Headers

__all__ = [
    "Body",
    "ChunkedBody",
    "CloseBody",
    "FramingError",
    "LengthBody",
    "body_framing",
    "keeps_alive",
]

# As h11: a number of more digits is no length but an attack on whoever parses it.
_LENGTH_DIGITS = 20
_BLANKS = " \t"


class LengthBody:
    """A body of as many bytes as Content-Length says (RFC 9112, section 6.2)."""

    __slots__ = ("_left", "excess", "finished")

    def __init__(self, length: int) -> None:
        self._left = length
        self.finished = length == 0
        self.excess = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes from the connection and give the payload that is in them."""
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            return data
        self._left = 0
        self.finished = True
        self.excess += data[left:]
        return data[:left]

    def eof(self) -> bool:
        """The peer closed: was the body complete? (RFC 9112, section 8)."""
        return self.finished


class CloseBody:
    """A body that ends when the peer closes the connection (RFC 9112, section 6.3, rule 8)."""

    __slots__ = ("excess", "finished")

    def __init__(self) -> None:
        self.finished = False
        self.excess = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes from the connection: all of them are payload."""
        return data

    def eof(self) -> bool:
        """The peer closed: that is how this body ends."""
        self.finished = True
        return True


Body: TypeAlias = ChunkedBody | LengthBody | CloseBody


def body_framing(*, method: bytes | str, status: int, headers: Headers) -> Body:
    """The decoder for a response's body, by the rules of RFC 9112, section 6.3, in their order.

    Raises FramingError where the rules leave open how the body is delimited.
    """
    # Rule 1; rule 2 (CONNECT) does not come here.
    if method in ("HEAD", b"HEAD") or status < 200 or status in (204, 304):
        return LengthBody(0)
    # Rules 3 and 4. We send no TE, so a server must not use any other coding.
    codings = headers.get("transfer-encoding")
    if codings is not None:
        if codings.strip(_BLANKS).lower() != "chunked":
            raise FramingError(f"a transfer coding other than chunked: {one_line(codings, 80)!r}")
        return ChunkedBody()
    # Rules 5 and 6: the same length said twice is one length.
    lengths = headers.get("content-length")
    if lengths is not None:
        values = {value.strip(_BLANKS) for value in lengths.split(",")}
        length = values.pop()
        # isdecimal() alone lets other scripts' digits through.
        if values or not (length.isascii() and length.isdecimal()) or len(length) > _LENGTH_DIGITS:
            raise FramingError(f"no valid Content-Length: {one_line(lengths, 80)!r}")
        return LengthBody(int(length))
    return CloseBody()  # rule 8; rule 7 is about requests


def keeps_alive(http_version: bytes, headers: Headers, framing: Body) -> bool:
    """May the connection serve another request after this response? (RFC 9112, section 9.3).

    HTTP/1.0's own keep-alive is not used. Content-Length beside Transfer-Encoding smells of
    response splitting, and section 6.1 asks to close after such a message.
    """
    if not http_version.endswith(b"1.1") or isinstance(framing, CloseBody):
        return False
    if "transfer-encoding" in headers and "content-length" in headers:
        return False
    options = headers.get("connection", "").lower().split(",")
    return "close" not in [option.strip(_BLANKS) for option in options]
