"""Which error of the SDK stands for which of penstock."""

from __future__ import annotations

import gc
import traceback
import weakref
from typing import Any

import openai
import pytest

import penstock
from penstock.compat.openai._errors import Raises, sdk_error
from penstock.compat.openai._http import _GENERATION
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.script import Stall
from tests.support.chat import KEY
from tests.support.openai_clients import STREAMED, async_client, drain

__all__ = ["anyio_backend"]

httpx: Any = __import__(_GENERATION)

REQUEST = httpx.Request("POST", "http://api.test/v1/chat/completions")
RESPONSE = httpx.Response(200, request=REQUEST)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (penstock.APIConnectionError("a"), openai.APIConnectionError),
        (penstock.StreamInterruptedError("a"), openai.APIConnectionError),
        (penstock.IncompleteStreamError("a"), openai.APIConnectionError),
        (penstock.StreamClosedError("a"), openai.APIConnectionError),
        (penstock.ConnectTimeout("a"), openai.APITimeoutError),
        (penstock.SlotTimeout("a"), openai.APITimeoutError),
        (penstock.ReadTimeout("a"), openai.APITimeoutError),
        (penstock.FirstTokenTimeout("a"), openai.APITimeoutError),
        (penstock.IdleTimeout("a"), openai.APITimeoutError),
        (penstock.TotalTimeout("a"), openai.APITimeoutError),
        (penstock.StreamError("a"), openai.APIError),
        (penstock.APIResponseError("a"), openai.APIResponseValidationError),
        (penstock.StreamBusyError("a"), openai.APIError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
def test_the_class_and_the_words(error: Any, expected: type[openai.APIError]) -> None:
    made = sdk_error(error, REQUEST, RESPONSE)
    assert type(made) is expected
    assert str(made) == made.message == "a"
    assert made.request is REQUEST


def test_what_a_server_reported() -> None:
    inner = {"message": "a", "code": 503, "type": "busy", "param": "model"}
    made = sdk_error(penstock.StreamError("503: a", code=503, body={"error": inner}), REQUEST)
    assert made.body == inner
    assert str(made) == made.message == "a"
    assert (str(made.code), made.type, made.param) == ("503", "busy", "model")
    made = sdk_error(penstock.StreamError("a", code="c", type="t", param="p", body="text"), REQUEST)
    assert made.body == "text"
    assert (made.code, made.type, made.param) == ("c", "t", "p")


def test_a_response_that_is_not_known_yet() -> None:
    made = sdk_error(penstock.APIResponseError("a", body="<html>"), REQUEST)
    assert type(made) is openai.APIError
    assert made.body == "<html>"


def test_what_makes_errors_keeps_no_request_alive() -> None:
    gc.disable()
    try:
        request = httpx.Request("GET", "http://api.test")
        raises = Raises(request)
        request.extensions["raises"] = raises
        made = raises(penstock.ReadTimeout("a"))
        assert isinstance(made, openai.APITimeoutError)
        assert made.request is request
        gone = weakref.ref(request)
        del request, made
        assert gone() is None
    finally:
        gc.enable()


def shows_key(error: BaseException | None) -> list[str]:
    """Where the frames of an error and its causes show the key in their local variables."""
    found: list[str] = []
    while error is not None:
        for frame, line in traceback.walk_tb(error.__traceback__):
            name = frame.f_globals.get("__name__", "")
            if not name.startswith("penstock."):
                continue
            for variable, value in frame.f_locals.items():
                if variable != "self" and KEY in repr(value):
                    found.append(f"{name}:{line} {variable}")
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.anyio
@pytest.mark.parametrize(
    "network",
    [
        MemoryNetwork([], refuse=9),
        MemoryNetwork(error_reply(401, f"not {KEY}")),
        MemoryNetwork(sse_reply(tokens("a", finish=None), done=False)),
        MemoryNetwork(sse_reply([{"error": f"not {KEY}"}], done=False)),
        MemoryNetwork(sse_reply([*tokens("a", finish=None), Stall()])),
    ],
    ids=["refused", "status", "cut", "reported", "timeout"],
)
async def test_no_frame_shows_the_key(network: MemoryNetwork) -> None:
    async with async_client(network, max_retries=0, timeout=2) as client:
        with pytest.raises(openai.APIError) as caught:
            await drain(await client.chat.completions.create(**STREAMED))
    assert not shows_key(caught.value)
