"""Requests of httpx as calls."""

from __future__ import annotations

import pytest

from penstock import Timeouts
from penstock._wire.url import Origin
from penstock.compat._calls import call_of, origin_of
from penstock.compat._plan import Plan
from tests.support.compat import Generation


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://api.test/v1", Origin("http", "api.test", 80)),
        ("https://api.test/v1", Origin("https", "api.test", 443)),
        ("https://api.test:8443", Origin("https", "api.test", 8443)),
        ("http://[::1]:99/x", Origin("http", "::1", 99)),
        ("http://bücher.test/", Origin("http", "xn--bcher-kva.test", 80)),
    ],
)
def test_where_a_request_goes(generation: Generation, url: str, origin: Origin) -> None:
    assert origin_of(generation.httpx, generation.httpx.Request("GET", url)) == origin


@pytest.mark.parametrize("url", ["ftp://api.test/", "//api.test/x", "http:///x", "x"])
def test_where_none_goes(generation: Generation, url: str) -> None:
    with pytest.raises(generation.httpx.UnsupportedProtocol):
        origin_of(generation.httpx, generation.httpx.Request("GET", url))


def test_the_head_is_the_requests_own(generation: Generation) -> None:
    request = generation.httpx.Request(
        "post", "http://api.test/a%20b?c=d", headers=[("X-A", "1"), ("x-a", "2")], content=b"abc"
    )
    outgoing = call_of(request, b"abc", None, None).outgoing
    assert (outgoing.method, outgoing.target, outgoing.body) == ("POST", "/a%20b?c=d", b"abc")
    assert outgoing.headers == request.headers.raw


@pytest.mark.parametrize(
    ("timeouts", "asked", "expected"),
    [
        (None, None, Timeouts(connect=None, read=None)),
        (None, (1, 2, 3, 4), Timeouts(connect=1, read=2, slot=4)),
        (Timeouts(total=9), (60, 900, 1, None), Timeouts(total=9)),
        (Timeouts(slot=3, first_token=1, idle=2), (1, 2, 3, 4), Timeouts(1, 3, 2, 1, 2)),
    ],
)
def test_the_stricter_limit_holds(
    generation: Generation, timeouts: Timeouts | None, asked: object, expected: Timeouts
) -> None:
    extensions = {"timeout": generation.httpx.Timeout(asked).as_dict()} if asked else {}
    request = generation.httpx.Request("GET", "http://api.test/", extensions=extensions)
    assert call_of(request, b"", timeouts, None).timeouts == expected


def test_a_plan_comes_before_both(generation: Generation) -> None:
    extensions = {"timeout": generation.httpx.Timeout(1).as_dict()}
    request = generation.httpx.Request("GET", "http://api.test/", extensions=extensions)
    plan = Plan(max_retries=3, timeouts=Timeouts(total=5), model="m", choices=2)
    call = call_of(request, b"", Timeouts(total=1), plan)
    assert (call.timeouts, call.max_retries, call.model) == (Timeouts(total=5), 3, "m")
    assert (call.choices, call.streaming, call.any_status) == (2, True, False)
