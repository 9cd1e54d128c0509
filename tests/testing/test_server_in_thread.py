"""A scripted server for those that block, and waiting for what another thread does."""

from __future__ import annotations

import http.client
import socket
import threading
import time

import pytest

from penstock.testing.replies import json_reply
from penstock.testing.script import RecordedRequest, Reply, Stall, reply
from penstock.testing.server import becomes_true, serve_in_thread


def test_a_blocking_client_is_answered() -> None:
    def script(request: RecordedRequest) -> Reply:
        return json_reply({"target": request.target})

    with serve_in_thread(script) as server:
        host, _, port = server.base_url.removeprefix("http://").partition("/")[0].partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        for target in ("/a", "/b"):
            connection.request("GET", target)
            assert connection.getresponse().read() == b'{"target": "%b"}' % target.encode()
        connection.close()
        assert [request.target for request in server.requests] == ["/a", "/b"]
        assert becomes_true(lambda: server.open_connections == 0)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), timeout=1)


def test_its_thread_ends_with_the_block_whatever_happens_inside() -> None:
    before = threading.active_count()

    def use() -> None:
        with serve_in_thread(reply(Stall())) as server:
            host, _, port = server.base_url[7:].partition("/")[0].partition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=10)
            connection.request("GET", "/")
            assert becomes_true(lambda: len(server.requests) == 1)
            connection.close()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert becomes_true(lambda: threading.active_count() == before, seconds=5)


def test_what_becomes_true_is_noticed_at_once() -> None:
    event = threading.Event()
    threading.Timer(0.05, event.set).start()
    started = time.monotonic()
    assert becomes_true(event.is_set, seconds=20)
    assert 0.03 < time.monotonic() - started < 10


def test_what_never_does_is_waited_for_only_so_long() -> None:
    looked: list[float] = []

    def never() -> bool:
        looked.append(time.monotonic())
        return False

    assert not becomes_true(never, seconds=0.03)
    assert looked[-1] - looked[0] >= 0.03
    assert becomes_true(lambda: "anything true", seconds=0)
