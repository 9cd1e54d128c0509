"""httpcore's DEBUG log has the steps of the library's requests, and not what was answered."""

from __future__ import annotations

import logging

import pytest

from penstock._http import lazy
from penstock._http.debug_log import hide_answers
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import json_reply, sse_reply, tokens
from penstock.testing.script import Send, reply
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

ECHO = "sk-Secret-0123456789"
HEAD = f"HTTP/1.1 200 {ECHO}\r\nx-echo: {ECHO}\r\ncontent-length: 2\r\n\r\n{{}}".encode()


async def test_the_steps_are_logged_without_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    network = MemoryNetwork(reply(HEAD))
    with caplog.at_level(logging.DEBUG):
        async with client_on(network) as client:
            await client.request("GET", "/x")
    names = [record.getMessage() for record in caplog.records if "httpcore" in record.name]
    assert "receive_response_headers.complete" in names
    assert ECHO not in caplog.text


async def test_requests_of_others_are_logged_as_before(caplog: pytest.LogCaptureFixture) -> None:
    stream = lazy.httpcore.AsyncMockStream([HEAD])
    url = lazy.httpcore.URL("http://api.test/")
    with caplog.at_level(logging.DEBUG):
        async with lazy.httpcore.AsyncHTTP11Connection(url.origin, stream) as connection:
            response = await connection.request("GET", url)
    assert response.status == 200
    assert ECHO in caplog.text


def test_the_filter_is_installed_once() -> None:
    loggers = [logging.getLogger(f"{name}.http11") for name in ("httpcore", "httpcore2")]
    before = [list(logger.filters) for logger in loggers]
    hide_answers(test_the_filter_is_installed_once.__code__)
    assert [logger.filters for logger in loggers] == before
    assert all(len(filters) == 1 for filters in before)


async def test_a_deep_caller_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def deep(levels: int) -> None:
        if levels:
            await deep(levels - 1)
        else:
            network = MemoryNetwork([reply(Send(HEAD)), sse_reply(tokens(ECHO)), json_reply({})])
            async with client_on(network) as client:
                await client.request("GET", "/x")
                await client.complete(REQUEST)

    with caplog.at_level(logging.DEBUG):
        await deep(30)
    assert ECHO not in caplog.text
