"""Scripts that choose by what the request asks for."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import InternalServerError, NotFoundError
from penstock.testing.answers import by_model, by_stream, text_reply
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


async def said(client: Any, model: str) -> Any:
    return (await client.complete({**REQUEST, "model": model})).choices[0].message.content


async def test_each_model_has_a_script_of_its_own() -> None:
    script = by_model(
        {
            "one": [text_reply("1st"), text_reply("2nd")],
            "down": error_reply(503),
            "echo": lambda request: text_reply(request.json["model"]),
        }
    )
    async with client_on(script, max_retries=0) as client:
        assert await said(client, "one") == "1st"
        assert await said(client, "echo") == "echo"
        with pytest.raises(InternalServerError):
            await said(client, "down")
        assert await said(client, "one") == "2nd"
        assert await said(client, "one") == "2nd"
        with pytest.raises(NotFoundError, match="`other` does not exist") as caught:
            await said(client, "other")
        assert caught.value.code == "model_not_found"


async def test_other_models_and_requests_without_one() -> None:
    async with client_on(by_model({"one": text_reply("1")}, other=text_reply("?"))) as client:
        assert await said(client, "two") == "?"
        response = await client.request("GET", "/models")
        assert response.status_code == 200


async def test_streamed_or_whole() -> None:
    script = by_stream(text_reply("streamed"), text_reply("whole", stream=False))
    async with client_on(script) as client:
        assert await said(client, "m") == "streamed"
        completion = await client.chat.completions.create(**REQUEST)
        assert completion.choices[0].message.content == "whole"
