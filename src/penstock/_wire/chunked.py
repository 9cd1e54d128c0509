"""The chunked transfer coding (RFC 9112, section 7.1), decoded without I/O.

    chunked-body    = *chunk last-chunk trailer-section CRLF
    chunk           = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
    last-chunk      = 1*("0") [ chunk-ext ] CRLF
    trailer-section = *( field-line CRLF )

Extensions and trailers are checked and dropped. This accepts what h11 accepts, including
blanks after the size and a bare LF at the end of a trailer line (RFC 9112, section 2.2).
Unlike h11 it does not read trailers named like a framing field; they mean nothing there
(RFC 9110, section 6.5.1).
"""

from __future__ import annotations

import re
import threading

from .excerpt import excerpt

__all__ = ["ChunkedBody", "FramingError", "known"]

# Bounds on what a peer can make us buffer. In practice servers send neither extensions nor
# trailers; aiohttp allows 8 KiB a line, Node 16 KiB in all. The bound on a line also keeps
# joining its pieces linear.
MAX_LINE = 16 * 1024
MAX_TRAILERS = 64 * 1024

_CRLF = b"\r\n"

# A head separates two payloads: the CRLF that ends one chunk and the next chunk's size line
# without its own CRLF. int() alone would accept "0x1", "+1", "1_0" and blanks. The bound on the
# digits is h11's.
_HEAD = re.compile(rb"\r\n([0-9A-Fa-f]{1,20})(?:;[^\n]*|[ \t]*)")

# field-name ":" OWS field-value OWS; in values h11 refuses only NUL, LF, VT, FF and CR.
_FIELD = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+:[^\x00\n\v\f\r]*")
_FOLDED = re.compile(rb"[ \t]+[^\x00\n\v\f\r]*")  # obs-fold (RFC 9112, section 5.2)


class _Known(threading.local):
    """What a thread knows: without the GIL, threads that share a dict wait for one another.

    With one for all, two event loops took three times as much CPU as they do now.
    """

    def __init__(self) -> None:
        self.sizes: dict[bytes, int] = {}
        """Of the heads seen so far: one lookup replaces the checks and int(). Only plain sizes of
        up to three digits are kept, a few thousand entries at most."""


known = _Known()
_LONGEST_KNOWN = len(_CRLF) + 3


class FramingError(ValueError):
    """The peer broke the framing of the body; its connection is of no more use.

    `payload` is what the same `feed` decoded before the fault, so the result does not depend
    on how the network split the bytes.
    """

    payload: bytes = b""


class ChunkedBody:
    """Decodes a chunked body that arrives in pieces of any size.

    Bytes fed after the end of the body go to `excess`; stop feeding once `finished` is true.
    """

    __slots__ = ("_held", "_left", "_trailer_budget", "excess", "finished")

    def __init__(self) -> None:
        self.finished = False
        self.excess = b""
        # Bytes of the current chunk's payload still to come.
        self._left = 0
        # The unfinished line (between payloads: head). The first chunk has no CRLF before it;
        # this one makes all heads look the same.
        self._held: bytes = _CRLF
        # Bytes the trailer section may still have; None until the last chunk.
        self._trailer_budget: int | None = None

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes from the connection and return the payload in them.

        Raises FramingError; the decoder is unusable after that.
        """
        left = self._left
        if len(data) <= left:
            self._left = left - len(data)
            return data
        if not left and self._held == _CRLF and self._trailer_budget is None:
            # One whole chunk, the usual read of a live stream (saves 4 % of such a read).
            # Known sizes are never 0.
            end = data.find(_CRLF)
            size = known.sizes.get(_CRLF + data[:end])
            if size is not None and end + size + 4 == len(data) and data.endswith(_CRLF):
                return data[end + 2 : -2]
        sizes = known.sizes
        payloads: list[bytes] = []
        try:
            if self._trailer_budget is not None:
                self._read_trailers(data, self._trailer_budget)
                return b""
            # `stop` is the end of the last payload, `end` the end of the next size line.
            if left:
                stop = left
                payloads.append(data[:stop])
                end = data.find(_CRLF, stop + 2)
                head = data[stop:end]
            else:
                if self._held != _CRLF:  # it is _CRLF after whole chunks
                    data = self._held + data
                    if not data.startswith(_CRLF):
                        self._hold(data)
                        return b""
                    data = data[2:]
                stop = -2
                end = data.find(_CRLF)
                head = _CRLF + data[:end]
            # One search, one lookup and two slices a chunk: looking up the whole head checks the
            # end of one chunk and reads the next size at once (-12 %).
            while end >= 0:
                size = sizes.get(head)
                if size is None:
                    size = _parse_head(head)
                    if size == 0:
                        self._left = 0
                        self._held = b""
                        self._read_trailers(data[end + 2 :], MAX_TRAILERS)
                        return b"".join(payloads)
                end += 2
                stop = end + size
                payloads.append(data[end:stop])
                end = data.find(_CRLF, stop + 2)
                head = data[stop:end]
            if stop > len(data):
                self._left = stop - len(data)
                self._held = b""
            else:
                self._left = 0
                self._hold(_CRLF + data if stop < 0 else data[stop:])
        except FramingError as error:
            error.payload = b"".join(payloads)
            raise
        return payloads[0] if len(payloads) == 1 else b"".join(payloads)

    @property
    def at_rest(self) -> bool:
        """True between two chunks."""
        return not self._left and self._held == _CRLF and self._trailer_budget is None

    def eof(self) -> bool:
        """The peer closed: was the body complete? (RFC 9112, section 8)."""
        return self.finished

    def _hold(self, head: bytes) -> None:
        if head != _CRLF:
            if not head.startswith(_CRLF[: len(head)]):
                raise FramingError(f"a chunk is followed by {excerpt(head, 20)!r}, not by CRLF")
            if len(head) > MAX_LINE + 1:  # one more for the CR of its own CRLF
                raise FramingError(f"a chunk-size line of more than {MAX_LINE} bytes")
            self._held = head
        else:
            self._held = _CRLF  # one object for all bodies

    def _read_trailers(self, data: bytes, budget: int) -> None:
        if self.finished:
            self.excess += data
            return
        data = self._held + data
        begin = 0
        while True:
            end = data.find(b"\n", begin) + 1
            length = (end or len(data)) - begin
            if length > min(budget, MAX_LINE):
                raise FramingError(
                    f"trailers of more than {MAX_TRAILERS} bytes ({MAX_LINE} a line)"
                )
            if not end:
                self._held = data[begin:]
                self._trailer_budget = budget
                return
            line = data[begin : end - 1].removesuffix(b"\r")
            if not line:
                self._trailer_budget = budget
                self.finished = True
                self.excess = data[end:]
                return
            # A folded line continues the previous one, so it cannot be the first.
            folded = budget < MAX_TRAILERS and _FOLDED.fullmatch(line)
            if not folded and not _FIELD.fullmatch(line):
                raise FramingError(f"a malformed trailer line: {excerpt(line, 80)!r}")
            budget -= length
            begin = end


def _parse_head(head: bytes) -> int:
    match = _HEAD.fullmatch(head)
    if match is None or len(head) > MAX_LINE:
        raise FramingError(f"a malformed end of chunk or chunk-size line: {excerpt(head, 80)!r}")
    size = int(match[1], 16)
    if size and len(head) <= _LONGEST_KNOWN and match[1] == head[2:]:
        known.sizes[head] = size
    return size
