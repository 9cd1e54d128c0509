"""What type checkers make of requests, results and errors. Nothing here is run.

`nox -s types` reads it with mypy and with pyright; `assert_type` is the test.
"""

from __future__ import annotations

from typing import Any, Unpack, assert_type

import penstock
from penstock import AsyncClient, ChatCompletion, Client, CompletionStream, TextCompletion

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}


async def plain_dicts(client: AsyncClient, other: dict[str, object]) -> None:
    completions = client.chat.completions
    assert_type(completions.stream(**REQUEST), CompletionStream)
    assert_type(completions.stream(**REQUEST, temperature=0.5), CompletionStream)
    assert_type(await completions.create(**other), ChatCompletion)
    assert_type(await client.complete(REQUEST), ChatCompletion)
    assert_type(await client.complete(**other), ChatCompletion)
    assert_type(await client.completions.create(**other), TextCompletion)


async def others(client: Client, spread: penstock.Spread) -> None:
    assert_type(client.chat.completions.create(**REQUEST), ChatCompletion)
    assert_type(client.complete(REQUEST, seed=3), ChatCompletion)
    assert_type(await spread.complete(**REQUEST), ChatCompletion)


async def slips(client: AsyncClient) -> None:
    stream = client.chat.completions.stream
    stream(model="m", messages=[1], temperature=0.3, top_k=4, extra_body={"of_one_server": 1})
    stream(model="m", messages=[1], temprature=0.3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    stream(model="m", messages=[1], temperature="0")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    stream(model="m")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await client.complete(REQUEST, temprature=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    AsyncClient.from_env(timeouts=penstock.Timeouts(read=3), max_retries=1)
    AsyncClient.from_env(timeuts=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Client.from_env("groq", timeuts=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def passed_on(client: AsyncClient, **params: Unpack[penstock.ChatParams]) -> str:
    completion = await client.chat.completions.create(model="m", messages=[], **params)
    return completion.text


async def results(client: AsyncClient) -> None:
    async with penstock.fan_out(client.complete, [REQUEST]) as fan:
        async for result in fan:
            assert_type(result.unwrap(), ChatCompletion)
            if result.error is not None:
                assert_type(result.error, Exception)
                continue
            assert_type(result.value, ChatCompletion)
            assert_type(result.value.text, str)


def passed(result: penstock.Result[str, int]) -> int:
    return result.value if result.error is None else 0


async def events(client: AsyncClient, requests: list[dict[str, Any]]) -> None:
    async with penstock.fan_out_chunks(client, requests) as feed:
        async for event in feed:
            if isinstance(event, penstock.ResultEvent):
                if event.error is None:
                    assert_type(event.completion, ChatCompletion)
                assert_type(event.unwrap(), ChatCompletion)
            else:
                assert_type(event, penstock.ChunkEvent)


def partial(error: penstock.StreamInterruptedError, bad: penstock.StructuredOutputError) -> str:
    assert_type(error.partial, ChatCompletion)
    return error.partial.text + bad.completion.text
