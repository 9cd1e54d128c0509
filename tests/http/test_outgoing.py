from __future__ import annotations

import anyio
import pytest

from penstock._http.dial import Dialer
from penstock._http.outgoing import Outgoing, as_httpcore
from penstock._http.proxy import Proxy
from penstock._wire.request_head import RequestHead
from penstock._wire.url import Origin

OUTGOING = Outgoing(RequestHead("POST", "/v1/x?y=1", [(b"Host", b"h:81"), (b"A", b"b")]), b"body")


def pieces(request: object) -> list[bytes]:
    async def read() -> list[bytes]:
        return [piece async for piece in request.stream]  # type: ignore[attr-defined]

    return anyio.run(read)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("body", [b"", b"body", b"x" * 100_000])
def test_a_request_to_the_origin(scheme: str, body: bytes) -> None:
    outgoing = Outgoing(OUTGOING.head, body)
    request = as_httpcore(outgoing, Dialer(Origin(scheme, "h", 81)))
    assert (request.method, request.url.target) == (b"POST", b"/v1/x?y=1")
    assert (request.url.host, request.url.port) == (b"h", 81)
    assert request.headers == OUTGOING.headers
    assert b"".join(pieces(request)) == body


def test_a_proxy_that_forwards_gets_the_whole_url_and_its_own_credentials() -> None:
    dialer = Dialer(Origin("http", "h", 81), proxy=Proxy.parse("http://u:p@proxy:3128"))
    request = as_httpcore(OUTGOING, dialer)
    assert request.url.target == b"http://h:81/v1/x?y=1"
    assert request.headers[-1][0] == b"Proxy-Authorization"
    # The next request does not inherit them.
    assert OUTGOING.headers == [(b"Host", b"h:81"), (b"A", b"b")]


@pytest.mark.parametrize("proxy", ["http://u:p@proxy", "socks5://u:p@proxy"])
def test_what_goes_through_a_tunnel_shows_the_proxy_nothing(proxy: str) -> None:
    dialer = Dialer(Origin("https", "h", 443), proxy=Proxy.parse(proxy))
    request = as_httpcore(OUTGOING, dialer)
    assert request.url.target == b"/v1/x?y=1"
    assert request.headers == OUTGOING.headers


def test_the_body_can_be_sent_any_number_of_times() -> None:
    dialer = Dialer(Origin("http", "h", 81))
    assert [pieces(as_httpcore(OUTGOING, dialer)) for _ in range(2)] == [[b"body"], [b"body"]]


def test_its_picture_shows_neither_headers_nor_body() -> None:
    outgoing = Outgoing(
        RequestHead("POST", "/v1/x", [(b"Authorization", b"Bearer sk-secret")]), b"a secret"
    )
    rich = outgoing.__rich_repr__()
    for picture in (repr(outgoing), str(outgoing), str([outgoing]), str(list(rich))):
        assert "/v1/x" in picture
        assert "secret" not in picture
