"""What counts as progress for `first_token`, `idle` and races, at the stream's own level."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import penstock
from penstock import Timeouts, race
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import Pause, Reply, Stall
from tests.invariants.virtual_uvloop import virtual_backend as anyio_backend
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

LIMITS = Timeouts(first_token=0.7, idle=0.7)
ROLE, FINISH = tokens()


def delta(**members: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": members, "finish_reason": None}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


PROGRESS: dict[str, dict[str, Any]] = {
    "content": delta(content="a"),
    "reasoning": delta(content="", reasoning="a"),
    "reasoning_content": delta(reasoning_content="a"),
    "reasoning_details": delta(reasoning_details=[{"type": "reasoning.text", "text": "a"}]),
    "refusal": delta(refusal="a"),
    "tool call": delta(tool_calls=[{"index": 0, "function": {"arguments": "{"}}]),
    "custom call": delta(tool_calls=[{"index": 0, "custom": {"input": "a"}}]),
    "function_call": delta(function_call={"arguments": "{"}),
    "audio": delta(audio={"data": "AAAA"}),
    "images": delta(images=[{"image_url": {"url": "data:,a"}}]),
    "unknown": delta(x_vendor={"thought": "a"}),
}
NONE: dict[str, Any] = {
    "ping": b": ping\n\n",
    "role": ROLE,
    "empty content": delta(content=""),
    "null": delta(content=None, reasoning=None, tool_calls=None),
    "empty lists": delta(content="", tool_calls=[], reasoning_details=[], images=[]),
    "empty object": delta(audio={}),
    "obfuscation": {**delta(content=""), "obfuscation": "aXk3"},
    "obfuscated delta": delta(content="", obfuscation="aXk3"),
    "no choices": {"id": "c1", "choices": []},
    "usage": {"id": "c1", "choices": [], "usage": {"total_tokens": 3}},
}


def every(seconds: float, *events: Any, done: bool = True) -> Reply:
    spaced = [part for event in events for part in (Pause(seconds), event)]
    return sse_reply(spaced, done=done)


@pytest.mark.parametrize("name", PROGRESS)
async def test_progress(name: str) -> None:
    reply = every(0.5, *[PROGRESS[name]] * 5, FINISH)
    async with client_on(reply) as client:
        stream = client.chat.completions.stream(**REQUEST, timeouts=LIMITS)
        await stream.collect()
        assert stream.statistics().first_token == pytest.approx(0.5)


@pytest.mark.parametrize("name", NONE)
async def test_no_progress(name: str) -> None:
    reply = every(0.2, *[NONE[name]] * 9, *PROGRESS.values(), FINISH)
    async with client_on(reply, max_retries=0) as client:
        with pytest.raises(penstock.FirstTokenTimeout):
            await client.complete(REQUEST, timeouts=LIMITS)
        assert anyio.current_time() == pytest.approx(0.7)
    reply = every(0.2, PROGRESS["content"], *[NONE[name]] * 9, FINISH)
    async with client_on(reply, max_retries=0) as client:
        with pytest.raises(penstock.IdleTimeout):
            await client.complete(REQUEST, timeouts=LIMITS)
        assert anyio.current_time() == pytest.approx(0.7 + 0.2 + 0.7)


async def test_audio_that_is_spoken_slowly() -> None:
    pieces = [delta(audio={"data": "AAAA"})] * 5
    reply = every(0.2, delta(role="assistant", audio={"id": "a1"}), *pieces, FINISH)
    async with client_on(reply) as client:
        whole = await client.complete(REQUEST, timeouts=LIMITS)
    assert whole.choices[0].message.to_dict()["audio"]["id"] == "a1"


@pytest.mark.parametrize("name", PROGRESS)
async def test_it_wins_a_race(name: str) -> None:
    slow, fast = every(0.5, ROLE, Stall()), every(0.3, ROLE, ROLE, PROGRESS[name], FINISH)
    client = client_on(MemoryNetwork([slow, fast]))
    async with client, race(client, [REQUEST, REQUEST]) as winner:
        assert anyio.current_time() == pytest.approx(0.9)
        await winner.collect()


# --- llama.cpp's reading of the prompt ---


def reading(processed: int) -> dict[str, Any]:
    counts = {"total": 100, "cache": 0, "processed": processed, "time_ms": 5}
    return {**delta(role="assistant", content=None), "prompt_progress": counts}


async def test_reading_the_prompt_holds_off_the_first_token() -> None:
    prompt = [reading(20 * step) for step in range(1, 6)]
    reply = every(0.5, *prompt, PROGRESS["content"], FINISH)
    async with client_on(reply) as client:
        stream = client.chat.completions.stream(**REQUEST, return_progress=True, timeouts=LIMITS)
        await stream.collect()
        # It is no token all the same.
        assert stream.statistics().first_token == pytest.approx(3.0)


async def test_after_it_the_first_token_is_due() -> None:
    async with client_on(every(0.5, reading(50), reading(100), Stall()), max_retries=0) as client:
        with pytest.raises(penstock.FirstTokenTimeout):
            await client.complete({**REQUEST, "return_progress": True}, timeouts=LIMITS)
        assert anyio.current_time() == pytest.approx(1.7)


async def test_between_tokens_it_does_not_count() -> None:
    reply = every(0.5, PROGRESS["content"], *[reading(1)] * 5)
    async with client_on(reply) as client:
        with pytest.raises(penstock.IdleTimeout):
            await client.complete(REQUEST, timeouts=LIMITS)
        assert anyio.current_time() == pytest.approx(1.2)


async def test_it_wins_no_race() -> None:
    slow, fast = every(0.2, *[reading(1)] * 9, Stall()), every(0.5, PROGRESS["content"], FINISH)
    client = client_on(MemoryNetwork([slow, fast]))
    async with client, race(client, [REQUEST, REQUEST]) as winner:
        assert anyio.current_time() == pytest.approx(0.5)
        await winner.collect()


async def test_it_holds_off_the_first_token_of_text_completions() -> None:
    head = {"choices": [{"index": 0, "text": ""}], "prompt_progress": {"processed": 1, "total": 2}}
    text = {"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}
    async with client_on(every(0.5, head, head, head, text)) as client:
        stream = client.completions.stream(model="m", prompt="x", timeouts=LIMITS)
        assert (await stream.collect()).text == "a"
