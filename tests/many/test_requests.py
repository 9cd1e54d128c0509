"""Where a stream is opened for a request."""

from __future__ import annotations

from typing import Any

import pytest

from penstock._call.lifecycle import StreamState
from penstock._many.requests import check_client, open_stream
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_reply, tokens

from ..support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


async def test_a_stream_that_has_sent_nothing_yet() -> None:
    async with client_on(lambda _: sse_reply(tokens("Hel", "lo"))) as client:
        check_client(client)
        async with open_stream(client, REQUEST) as stream:
            pass
        stream = open_stream(client, REQUEST)
        assert stream.state is StreamState.NEW
        assert (await stream.collect()).choices[0].message.content == "Hello"


async def test_an_invalid_request_is_refused_before_anything_is_sent() -> None:
    async with client_on(lambda _: sse_reply(tokens("a"))) as client:
        with pytest.raises(ValueError, match="model"):
            open_stream(client, {**REQUEST, "model": ""})


@pytest.mark.parametrize("client", [None, "https://api.test/v1", object()])
def test_what_is_not_a_client(client: Any) -> None:
    with pytest.raises(TypeError, match="AsyncClient"):
        check_client(client)
