"""The head of a request: what all requests to one endpoint have in common, and how it is written.

    RequestHead ──signed(key)──> RequestHead ──plain(body)──> bytes, or None: not plain
    (an endpoint)    kept                        kept

Plain is a strict part of RFC 9112, for which h11 writes the same; httpcore with h11 writes, or
refuses, the rest. A client keeps the heads of its usual endpoints. They are checked once, and a
request adds its length and its body (10 % of a whole answer).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

__all__ = ["Fields", "RequestHead", "plain_request"]

Fields: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Names and values of header lines."""

# Possessive, so that a head that does not fit is found out in linear time.
_REQUEST = re.compile(
    rb"[A-Z]++ [!-~]++ HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++: (?:[!-~\x80-\xff]++[ \t]*+(?!\r))*+"
    rb"[!-~\x80-\xff]*+\r\n)++\r\n"
)
_NO_LENGTH = b"0\r\n\r\n"


class RequestHead:
    """Method, target and header fields of requests that differ in their bodies.

    It is never changed: any number of requests may share it. Its fields may be secret, so it has
    no repr of its own.
    """

    __slots__ = ("_plain", "_signed", "fields", "measured", "method", "target")

    def __init__(self, method: str, target: str, fields: Fields, *, measured: bool = False) -> None:
        self.method: str = method
        self.target: str = target
        self.fields: Fields = fields
        """The header lines, but for a length that is measured."""
        self.measured: bool = measured
        """True if the last line is a Content-Length, that of the body."""
        # What `plain` begins with; empty if it is not plain, and None until that is known.
        self._plain: bytes | None = None
        # The last key that it was signed with, and the result.
        self._signed: tuple[str, RequestHead] | None = None

    def lines(self, body: bytes) -> list[tuple[bytes, bytes]]:
        """Return the header lines of a request with this body."""
        length = [(b"Content-Length", b"%d" % len(body))] if self.measured else []
        return [*self.fields, *length]

    def plain(self, body: bytes) -> bytes | None:
        """Return a request with this body as it is sent; None if it is not plain."""
        if body and not self.measured:
            return plain_request(self.method, self.target, self.lines(body), body)
        start = self._plain
        if start is None:
            start = plain_request(self.method, self.target, self.lines(b""), b"") or b""
            self._plain = start = start.removesuffix(_NO_LENGTH) if self.measured else start
        if not start:
            return None
        return b"%b%d\r\n\r\n%b" % (start, len(body), body) if self.measured else start

    def signed(self, key: str | None, added: Fields = ()) -> RequestHead:
        """Return the head with its API key and these lines, except those it has already."""
        if added:
            return self._with(added, key)
        if key is None:
            return self
        signed = self._signed
        if signed is None or signed[0] != key:
            signed = self._signed = (key, self._with((), key))
        return signed[1]

    def _with(self, added: Fields, key: str | None) -> RequestHead:
        more = list(added)
        if key is not None:
            more.append((b"Authorization", b"Bearer " + key.encode("ascii")))
        present = {name.lower() for name, _ in self.fields}
        more = [line for line in more if line[0].lower() not in present]
        if not more:
            return self
        return self._replace([*self.fields, *more])

    def renewed(self, headers: Mapping[bytes, bytes]) -> RequestHead:
        """Return the head with new values of headers, given by their lower-case names."""
        return self._replace([(name, headers.get(name.lower(), old)) for name, old in self.fields])

    def _replace(self, fields: Fields) -> RequestHead:
        return RequestHead(self.method, self.target, fields, measured=self.measured)


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
