"""`TextCompletionStream` in use: a legacy completion with the guarantees of a chat's."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import penstock
from penstock import StreamState, TextCompletionStream, Timeouts
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, json_reply, sse_reply
from penstock.testing.script import Pause, Reply, Reset, Stall
from penstock.types import TextLogprobs
from tests.support.chat import KEY, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"model": "m", "prompt": "Once"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def piece(text: str, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "text": text, "finish_reason": finish, "logprobs": None}
    head = {"id": "c", "object": "text_completion", "created": 5, "model": "m"}
    return {**head, "choices": [{**choice, **more}]}


PIECES = [piece(" upon"), piece(""), piece(" a time"), piece("", finish="length")]
TEXT = " upon a time"
ONCE = sse_reply([*PIECES, {"id": "c", "choices": [], "usage": USAGE}])


def slowly(*events: Any, done: bool = True) -> Reply:
    spaced: list[Any] = []
    for event in events:
        spaced += [Pause(1), event]
    return sse_reply(spaced, done=done)


async def by_pieces(stream: TextCompletionStream) -> str:
    return "".join([each.text async for each in stream])


async def by_text(stream: TextCompletionStream) -> str:
    pieces = [text async for text in stream.text]
    assert "" not in pieces
    return "".join(pieces)


async def by_collect(stream: TextCompletionStream) -> str:
    return (await stream.collect()).text


@pytest.mark.parametrize("read", [by_pieces, by_text, by_collect])
async def test_every_way_to_read(read: Any) -> None:
    network = MemoryNetwork([ONCE, slowly(*PIECES)])
    async with client_on(network) as client:
        for _ in range(2):
            async with client.completions.stream(**ASK) as stream:
                assert await read(stream) == TEXT
                assert stream.state is StreamState.COMPLETED
            assert stream.partial.text == TEXT
            assert stream.partial.choices[0].finish_reason == "length"
            assert (stream.partial.id, stream.partial.created) == ("c", 5)
        assert len(network.connections) == 1
    request = network.requests[0]
    assert request.target == "/v1/completions"
    assert request.json == {"model": "m", "prompt": "Once", "stream": True}


async def test_usage_and_numbers() -> None:
    watcher = Watcher()
    async with client_on(ONCE, observer=watcher) as client:
        stream = client.completions.stream(**ASK)
        whole = await stream.collect()
        assert whole.usage is not None
        assert whole.usage.total_tokens == 3
        assert stream.statistics().events == 5
    (finished,) = watcher.of("finished")
    assert (finished.model, finished.usage) == ("m", whole.usage)


async def test_several_choices_with_log_probabilities() -> None:
    def logprobs(token: str) -> dict[str, Any]:
        return {"tokens": [token], "token_logprobs": [-1.0], "top_logprobs": [{token: -1.0}]}

    events = [
        piece("a", logprobs=logprobs("a")),
        piece("x", 1, logprobs=logprobs("x")),
        piece("b", finish="stop", logprobs=logprobs("b")),
        piece("y", 1, "length", logprobs=logprobs("y")),
    ]
    async with client_on(sse_reply(events)) as client:
        whole = await client.completions.stream(**ASK, n=2, logprobs=1).collect()
    assert [(c.index, c.text, c.finish_reason) for c in whole.choices] == [
        (0, "ab", "stop"),
        (1, "xy", "length"),
    ]
    assert whole.choices[1].logprobs == TextLogprobs(
        tokens=["x", "y"], token_logprobs=[-1.0, -1.0], top_logprobs=[{"x": -1.0}, {"y": -1.0}]
    )


@pytest.mark.parametrize("prompt", ["one", ["one", "two"], [1, 2, 3], [[1, 2], [3]]])
async def test_any_prompt_goes_out(prompt: Any) -> None:
    network = MemoryNetwork(ONCE)
    async with client_on(network) as client:
        await client.completions.stream(model="m", prompt=prompt).collect()
        if not isinstance(prompt, str):
            await client.completions.stream(model="m", prompt=iter(prompt)).collect()
    assert all(request.json["prompt"] == prompt for request in network.requests)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"model": "", "prompt": "x"}, ValueError),
        ({"model": None, "prompt": "x"}, ValueError),
        ({"model": 5, "prompt": "x"}, TypeError),
        ({"model": "m", "prompt": ""}, ValueError),
        ({"model": "m", "prompt": []}, ValueError),
        ({"model": "m", "prompt": None}, TypeError),
        ({"model": "m", "prompt": 5}, TypeError),
        ({"model": "m", "prompt": b"x"}, TypeError),
        ({"model": "m", "prompt": {"a": 1}}, TypeError),
        ({"model": "m", "prompt": "x", "timeout": 5}, TypeError),
        ({"model": "m", "prompt": "x", "temperature": float("nan")}, ValueError),
        ({"model": "m", "prompt": "x", "max_retries": -1}, ValueError),
        ({"model": "m", "prompt": "x", "extra_headers": {"a b": "c"}}, ValueError),
    ],
)
async def test_bad_arguments_are_refused_before_any_io(
    arguments: dict[str, Any], kind: type[Exception]
) -> None:
    network = MemoryNetwork(ONCE)
    async with client_on(network) as client:
        with pytest.raises(kind):
            client.completions.stream(**arguments)
        with pytest.raises(kind):
            await client.completions.create(**arguments)
    assert network.connections == []


async def test_extra_arguments() -> None:
    network = MemoryNetwork(ONCE)
    async with client_on(network) as client:
        stream = client.completions.stream(
            **ASK, echo=True, extra_body={"x": 1}, extra_query={"v": "2"}, extra_headers={"a": "b"}
        )
        await stream.collect()
    (request,) = network.requests
    assert request.target == "/v1/completions?v=2"
    assert (request.json["echo"], request.json["x"], request.headers["a"]) == (True, 1, "b")


async def test_a_whole_one() -> None:
    network = MemoryNetwork(json_reply({**piece(TEXT, finish="length"), "usage": USAGE}))
    async with client_on(network) as client:
        whole = await client.completions.create(**ASK, max_tokens=3)
        assert (whole.text, whole["usage"]["total_tokens"]) == (TEXT, 3)
        stream = await client.completions.create(**ASK, stream=True)
        assert isinstance(stream, TextCompletionStream)
        # A server that does not stream.
        assert await stream.collect() is not None
        assert stream.partial.text == TEXT
    assert network.requests[0].json["stream"] is False


async def test_reading_ahead_until_text_has_come() -> None:
    async with client_on(slowly(piece(""), *PIECES)) as client:
        stream = client.completions.stream(**ASK)
        assert await stream.first_token()
        assert anyio.current_time() == pytest.approx(2)
        assert stream.partial.choices == []
        assert await by_text(stream) == TEXT
    async with client_on(sse_reply([piece("", finish="stop")])) as client:
        assert not await client.completions.stream(**ASK).first_token()


async def test_a_cancelled_collect_loses_nothing() -> None:
    async with client_on(slowly(*PIECES)) as client:
        stream = client.completions.stream(**ASK)
        whole = None
        while whole is None:
            with anyio.move_on_after(0.7):
                whole = await stream.collect()
        assert whole.text == TEXT


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (Reset(), penstock.StreamInterruptedError),
        (Stall(), penstock.ReadTimeout),
        ({"error": {"message": f"no: {KEY}"}}, penstock.StreamError),
        (piece("", finish="error", error=f"no: {KEY}"), penstock.StreamError),
        (b"data: {\n\n", penstock.APIResponseError),
        (b"", penstock.IncompleteStreamError),
    ],
)
async def test_a_failure_has_the_text_so_far(last: Any, kind: type[penstock.PenstockError]) -> None:
    network = MemoryNetwork(sse_reply([*PIECES[:3], last], done=False))
    async with client_on(network, timeouts=Timeouts(read=3)) as client:
        stream = client.completions.stream(**ASK)
        with pytest.raises(kind) as caught:
            await stream.collect()
        partial: Any = caught.value.partial
        assert partial.text == stream.partial.text == TEXT
        assert KEY not in f"{caught.value} {vars(caught.value)}"
        with pytest.raises(kind):
            await anext(stream)
    assert len(network.requests) == 1


async def test_a_closed_one_has_the_text_so_far() -> None:
    async with client_on(sse_reply([*PIECES[:3], Stall()], done=False)) as client:
        stream = client.completions.stream(**ASK)
        await stream.read_batch()
        await stream.aclose()
        with pytest.raises(penstock.StreamClosedError) as caught:
            await stream.collect()
        partial: Any = caught.value.partial
        assert partial.text == TEXT


async def test_nothing_came() -> None:
    async with client_on(error_reply(400)) as client:
        stream = client.completions.stream(**ASK)
        assert stream.partial.text == ""
        with pytest.raises(penstock.BadRequestError):
            await stream.collect()
        assert stream.partial.text == ""


@pytest.mark.parametrize("stall", [1.0, 30.0])
async def test_the_grace_waits_for_every_prompt(stall: float) -> None:
    # The second prompt waits for a slot of the server while the first one is finished.
    second = [piece("b", 1), piece("", 1, "stop")]
    events = sse_reply([piece("a", finish="stop"), Pause(stall), *second, Stall()], done=False)
    async with client_on(events) as client:
        whole = await client.completions.stream(model="m", prompt=["x", "y"]).collect()
        assert [choice.text for choice in whole.choices] == ["a", "b"]
        assert anyio.current_time() == pytest.approx(stall + 1.0)
