"""Through the whole library to a real model: llama.cpp's server with SmolLM2, embedded."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

from penstock import AsyncClient, ChunkEvent, ResultEvent, StreamInterruptedError, fan_out_chunks
from penstock.testing.cuts import cut_after_events
from penstock.testing.memory import MemoryNetwork
from penstock.testing.recorder import Recorder
from tests.support.real_server import real_server
from tests.support.sweeps import in_turn

MODEL = "smollm2-135m-instruct"


def asking(prompt: str, **more: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "seed": 1,
        "max_tokens": 6,
        **more,
    }


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with real_server(4) as server:
        yield server.base_url


pytestmark = pytest.mark.anyio


def on(base_url: str) -> AsyncClient:
    # No observer, no key: what a newcomer writes.
    return AsyncClient(base_url, proxy="")


async def busy_slots(client: AsyncClient) -> int:
    async with AsyncClient(str(client_root(client)), proxy="") as other:
        slots = (await other.request("GET", "/slots")).json()
    return sum(slot["is_processing"] for slot in slots)


def client_root(client: AsyncClient) -> str:
    url = client._endpoint.base_url.origin
    return f"{url.scheme}://{url.host}:{url.port}"


async def becomes(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if await condition():
            return True
        await anyio.sleep(0.02)
    return False


@in_turn(0, uvloop=False)
async def test_the_model_is_listed(base_url: str) -> None:
    async with on(base_url) as client:
        models = await client.models.list()
        assert [model.id for model in models] == [MODEL]
        assert models[0].to_dict()["id"] == MODEL


@in_turn(1, uvloop=False)
async def test_it_streams_what_it_completes(base_url: str) -> None:
    request = asking("Say hello.", stream_options={"include_usage": True})
    async with on(base_url) as client:
        async with client.chat.completions.stream(**request) as stream:
            pieces = [text async for text in stream.text]
        streamed = stream.partial
        statistics = stream.statistics()
        completed = await client.complete(request)
        request.pop("stream_options")
        created = await client.chat.completions.create(**request)
    assert len(pieces) > 1
    assert "".join(pieces) == streamed.choices[0].message.content
    for answer in (streamed, completed, created):
        message = answer.choices[0].message
        assert (message.role, message.content) == ("assistant", "".join(pieces))
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 6
        assert answer.usage.prompt_tokens > 0
    assert created.to_dict()["object"] == "chat.completion"
    assert statistics.attempts == 1
    assert statistics.events >= len(pieces)
    assert statistics.headers is not None
    assert statistics.first_byte is not None
    assert statistics.first_token is not None
    assert statistics.total is not None
    assert 0 < statistics.headers <= statistics.first_byte <= statistics.first_token
    assert statistics.first_token < statistics.total
    assert statistics.bytes > 0


@in_turn(2, uvloop=False)
async def test_four_at_once(base_url: str) -> None:
    prompts = ["Name a fruit.", "Name a river.", "Name a colour.", "Name a bird."]
    requests = [asking(prompt, stream_options={"include_usage": True}) for prompt in prompts]
    order: list[int] = []
    texts = dict.fromkeys(range(4), "")
    results: dict[int, ResultEvent] = {}
    async with on(base_url) as client, fan_out_chunks(client, requests, limit=4) as events:
        async for event in events:
            if isinstance(event, ChunkEvent):
                for choice in event.chunk.choices:
                    if choice.delta.content:
                        order.append(event.index)
                        texts[event.index] += choice.delta.content
            else:
                results[event.index] = event
    assert sorted(results) == [0, 1, 2, 3]
    for index, result in results.items():
        completion = result.unwrap()
        assert completion.choices[0].message.content == texts[index] != ""
        assert completion.usage is not None
        assert completion.usage.completion_tokens == 6
    # They grew side by side: the second had begun before the first was whole.
    assert order != sorted(order)


@in_turn(3, uvloop=False)
@pytest.mark.parametrize("way", ["break", "cancel", "close"])
async def test_leaving_early_stops_the_generating(base_url: str, way: str) -> None:
    request = asking("Count from one to a thousand.", max_tokens=1500, ignore_eos=True)
    async with on(base_url) as client:

        async def generating() -> bool:
            return await busy_slots(client) == 1

        async def idle() -> bool:
            return await busy_slots(client) == 0

        assert await becomes(idle)
        if way == "cancel":
            with anyio.CancelScope() as scope:
                async with client.chat.completions.stream(**request) as stream:
                    async for _ in stream.text:
                        with anyio.CancelScope(shield=True):
                            assert await becomes(generating)
                        scope.cancel()
            assert scope.cancelled_caught
        else:
            async with client.chat.completions.stream(**request) as stream:
                async for _ in stream.text:
                    assert await becomes(generating)
                    if way == "close":
                        await client.aclose()
                    break
        assert await becomes(idle)
        partial = stream.partial
    assert partial.choices[0].finish_reason is None
    assert partial.choices[0].message.content


@in_turn(4, uvloop=False)
async def test_text_completions(base_url: str) -> None:
    asked: dict[str, Any] = {
        "model": MODEL, "prompt": ["Once upon a", "The sky is"], "temperature": 0, "seed": 1,
        "max_tokens": 5, "logprobs": 1,
    }  # fmt: skip
    async with on(base_url) as client:
        async with client.completions.stream(**asked) as stream:
            pieces: dict[int, str] = {0: "", 1: ""}
            async for piece in stream:
                for choice in piece.choices:
                    pieces[choice.index] += choice.text
            assert stream.state == "completed"
        created = await client.completions.create(**asked)
    for answer in (stream.partial, created):
        assert {choice.index: choice.text for choice in answer.choices} == pieces
        assert all(choice.finish_reason == "length" for choice in answer.choices)
        assert answer.text == pieces[0] != ""
        assert answer.usage is not None
        assert "logprobs" in answer.to_dict()["choices"][0]


@in_turn(5, uvloop=False)
async def test_events_of_its_own_endpoint(base_url: str) -> None:
    root = base_url.removesuffix("/v1")
    asked = {"prompt": "Once upon a", "n_predict": 5, "temperature": 0, "stream": True}
    async with on(root) as client:
        async with client.events("/completion", json=asked) as events:
            read = [event.json() async for event in events]
            assert events.state == "completed"
        assert [each["stop"] for each in read] == [False] * (len(read) - 1) + [True]
        text = "".join(each["content"] for each in read)
        async with client.stream("POST", "/completion", json={**asked, "stream": False}) as body:
            assert json.loads(await body.read())["content"] == text != ""
        stream = client.events("/completion", json={**asked, "n_predict": 1500, "ignore_eos": True})
        await anext(stream)
        await stream.aclose()

        async def idle() -> bool:
            return await busy_slots(client) == 0

        assert await becomes(idle)


@in_turn(6, uvloop=False)
async def test_a_long_prompt_tells_how_far_it_is(base_url: str) -> None:
    request = asking("Count. " * 80, max_tokens=1, return_progress=True)
    async with on(base_url) as client, client.chat.completions.stream(**request) as stream:
        chunks = [chunk async for chunk in stream]
    assert any("prompt_progress" in chunk for chunk in chunks)


@in_turn(7, uvloop=False)
async def test_a_recording_of_it_is_played_again_and_cut(base_url: str) -> None:
    recorder = Recorder()
    request = asking("Say hello.")
    async with AsyncClient(base_url, proxy="", network=recorder) as client:
        first = await client.complete(request)
    (exchange,) = recorder.transcript.exchanges
    assert exchange.end == "kept"
    times = [segment.at for segment in exchange.segments]
    assert times == sorted(times)
    assert times[-1] > 0
    whole = exchange.reply(timed=False)
    network = MemoryNetwork([whole, cut_after_events(whole, 3)])
    async with AsyncClient(base_url, network=network) as client:
        assert (await client.complete(request)).to_dict() == first.to_dict()
        with pytest.raises(StreamInterruptedError) as caught:
            await client.complete(request)
    assert caught.value.partial is not None
    text = caught.value.partial.choices[0].message.content
    assert text
    assert (first.choices[0].message.content or "").startswith(text)
