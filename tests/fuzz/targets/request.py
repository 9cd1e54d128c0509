"""Requests: what a caller gives stays in its place, or is refused with a ValueError.

A server (h11) reads the request line, the fields and nothing else, exactly as they were meant.
No error shows a key, or a password in a URL.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import h11

from penstock._wire.query import Query
from penstock._wire.request import checked_headers, checked_key
from penstock._wire.url import BaseURL

from ..reader import Reader
from ..target import Target

SECRET = "hunter2"
SCHEMES = ("http://", "https://", "HTTP://", "", "http:/", "ftp://", "//", "http:")


def check(data: bytes) -> None:
    reader = Reader(data)
    scheme = reader.pick(SCHEMES)
    user = f"user:{SECRET}@" if reader.below(4) == 1 else ""
    url = scheme + user + text(reader)
    path = text(reader)
    given = [(text(reader), text(reader)) for _ in range(reader.below(4))]
    key = text(reader) if reader.below(2) else "key-" + SECRET + text(reader)
    target = "/"
    host = "x"
    try:
        base = BaseURL.parse(url)
    except ValueError as error:
        secretive(error)
    else:
        assert not user
        assert base.origin.scheme in ("http", "https")
        assert 0 < base.origin.port < 65536
        host = base.origin.authority
        try:
            target = base.target(path)
        except ValueError as error:
            secretive(error)
    headers: dict[str, tuple[bytes, bytes]] = {}
    for name, value in given:
        try:
            headers |= checked_headers({name: value})
        except ValueError as error:
            secretive(error)
    try:
        line = b"Bearer " + checked_key(key).encode("ascii")
        headers["authorization"] = (b"Authorization", line)
    except ValueError as error:
        secretive(error)
    understood(target, [(b"Host", host.encode()), *headers.values()])
    query(text(reader), text(reader))


def query(name: str, value: str) -> None:
    """A parameter is read as it was given, beside another one or in its place."""
    try:
        given = Query.of({name: value}, "query")
    except ValueError as error:
        secretive(error)
        return
    assert parse_qsl(str(given), keep_blank_values=True) == [(name, value)]
    assert Query.parse(str(given)) == given
    both = Query.parse("other=1").merged(given)
    assert len(both.parts) == (1 if name == "other" else 2)
    assert both.parts[-1:] == given.parts
    assert given.merged(given) == given


def text(reader: Reader) -> str:
    size = reader.below(24)
    return reader.take(size).decode("latin-1" if reader.below(4) else "utf-8", "replace")


def secretive(error: Exception) -> None:
    assert SECRET not in str(error)
    assert str(error).isprintable(), error


def understood(target: str, headers: list[tuple[bytes, bytes]]) -> None:
    head = b"POST %b HTTP/1.1\r\n" % target.encode("ascii")
    head += b"".join(b"%b: %b\r\n" % line for line in headers)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head + b"\r\n")
    request = connection.next_event()
    assert isinstance(request, h11.Request), request
    assert request.target == target.encode("ascii")
    assert request.target.startswith(b"/")
    found = [(name, value) for name, value in request.headers.raw_items()]
    assert found == headers, (found, headers)
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    assert connection.trailing_data == (b"", False)


TARGET = Target(
    check,
    seeds=[
        b"\x01\x00\x0bx.test:80/v1\x01\x05a?b=c\x01\x01\x03X-A\x01\x03b c\x01\x00\x04sk-1\x01",
        b"\x00\x01\x06x.test\x01\x00\x00\x00\x01\x04\r\nX:\x01",
        b"\x00\x00\x07[::1]/v\x01\x06//x\r\n\x01\x01\x04Host\x01\x01x\x01\x00\x00",
    ],
    words=[
        *(b"\r\n", b"[::1]", b":0", b":99999", b"//", b"://", b"@", b"?", b"#", b"%0d%0a", b"\\"),
        *(b"Host", b"X-A", b"\x85", b"\xa0", b"\x7f", b"\xff", b"..", b"[", b"]", b"\xe2\x80\xa8"),
    ],
    max_length=128,
)
