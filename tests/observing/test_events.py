"""Observers: every event in order, an outcome exactly once, and no harm done by watching."""

from __future__ import annotations

import gc
import logging
import pickle
import warnings
from typing import Any

import anyio
import pytest

import penstock
from penstock import Limiter, Timeouts
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import End, Pause, Reply, Reset, Stall, reply
from tests.support.chat import KEY, REQUEST, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
HELLO = sse_reply(tokens("Hel", "lo", usage=USAGE), headers={"x-request-id": "req-1"})
WHOLE = json_reply(completion(usage=USAGE), headers={"x-request-id": "req-1"})
HALF = [*tokens("Hel", finish=None)]


def watched(script: Any, **options: Any) -> tuple[Any, Watcher]:
    watcher = Watcher()
    return client_on(script, observer=watcher, **options), watcher


async def test_the_life_of_a_stream() -> None:
    answer = sse_reply(
        [Pause(1), *tokens(finish=None), Pause(1), *tokens("Hel", usage=USAGE)],
        headers={"x-request-id": "req-1"},
    )
    client, watcher = watched(MemoryNetwork(answer.after(2)))
    async with client, client.chat.completions.stream(**REQUEST) as stream:
        await stream.collect()
    assert watcher.names == ["request_started", "response_started", "first_token", "finished"]
    started, responded, token, finished = (event for _, event in watcher.events)
    assert len({event.id for _, event in watcher.events}) == 1
    assert (started.model, started.method, started.path, started.stream) == (
        "test-model",
        "POST",
        "/v1/chat/completions",
        True,
    )
    assert started.time == 0
    assert (responded.attempt, responded.status_code, responded.request_id) == (1, 200, "req-1")
    assert responded.time == pytest.approx(2, abs=0.01)
    assert token.time == pytest.approx(4, abs=0.01)
    assert (finished.model, finished.outcome, finished.error) == ("test-model", "completed", None)
    assert finished.usage.total_tokens == 5
    assert (finished.attempts, finished.request_id, finished.started) == (1, "req-1", 0)
    assert finished.time == pytest.approx(4, abs=0.01)


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"input": "text", "model": "e"}', "e"),
        (b'{"model": 7}', None),
        (b'["model"]', None),
        (b"\xff not JSON", None),
        (b"", None),
    ],
)
async def test_the_model_is_found_in_the_body_of_any_request(
    body: bytes, model: str | None
) -> None:
    client, watcher = watched(MemoryNetwork(WHOLE))
    async with client, client.stream("POST", "/embeddings", content=body) as stream:
        await stream.read()
    events = dict(watcher.events)
    assert (events["request_started"].model, events["finished"].model) == (model, model)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (completion(id="a", model="m"), ("a", "m", ("stop",))),
        ({"id": "b", "model": "m", "stop_reason": "end_turn"}, ("b", "m", ("end_turn",))),
        ({"model": "m", "data": []}, (None, "m", ())),
        ({"id": 1, "model": "", "choices": [{}]}, (None, None, ())),
        ({"id": "c", "choices": "many"}, (None, None, ())),
        ("text", (None, None, ())),
    ],
)
async def test_any_answer_says_who_answered_and_why_it_ended(body: Any, expected: object) -> None:
    client, watcher = watched(MemoryNetwork(json_reply(body)))
    async with client:
        await client.request("POST", "/chat/completions", json=REQUEST)
    finished = dict(watcher.events)["finished"]
    assert (finished.response_id, finished.response_model, finished.finish_reasons) == expected


async def test_so_do_the_events_of_any_endpoint() -> None:
    client, watcher = watched(MemoryNetwork(sse_reply(tokens("a", "b"))))
    async with (
        client,
        client.events("/chat/completions", json={**REQUEST, "stream": True}) as events,
    ):
        async for _ in events:
            pass
    finished = dict(watcher.events)["finished"]
    assert (finished.response_id, finished.finish_reasons) == ("chatcmpl-1", ("stop",))
    assert finished.response_model == "test-model"


@pytest.mark.parametrize("way", ["create", "models", "request"])
async def test_the_life_of_a_call(way: str) -> None:
    client, watcher = watched(MemoryNetwork([error_reply(500), WHOLE]))
    async with client:
        if way == "create":
            await client.chat.completions.create(**REQUEST)
        elif way == "models":
            with pytest.raises(penstock.APIResponseError):
                await client.models.list()
        else:
            await client.request("GET", "/x")
    assert watcher.names == ["request_started", "attempt_failed", "response_started", "finished"]
    started, failed, responded, finished = (event for _, event in watcher.events)
    assert started.stream is False
    assert started.model == ("test-model" if way == "create" else None)
    assert (failed.attempt, type(failed.error)) == (1, penstock.InternalServerError)
    assert 0 < failed.retry_in <= 0.5
    assert responded.attempt == 2
    assert finished.attempts == 2
    assert finished.outcome == ("failed" if way == "models" else "completed")
    assert (finished.usage is not None) == (way != "models")


async def test_every_failed_attempt_is_told_and_the_last_has_no_more_wait() -> None:
    client, watcher = watched(MemoryNetwork([reply(Reset()), error_reply(500), error_reply(429)]))
    async with client:
        with pytest.raises(penstock.RateLimitError) as caught:
            await client.complete(REQUEST)
    assert watcher.names == ["request_started", *["attempt_failed"] * 3, "finished"]
    attempts = watcher.of("attempt_failed")
    assert [event.attempt for event in attempts] == [1, 2, 3]
    assert [event.retry_in is None for event in attempts] == [False, False, True]
    finished = watcher.of("finished")[0]
    assert (finished.outcome, finished.error, finished.attempts) == ("failed", caught.value, 3)


FAILURES: dict[str, Reply] = {
    "refused": error_reply(402),
    "reset": sse_reply([*HALF, Reset()], done=False),
    "cut": sse_reply([*HALF, End()], done=False),
    "incomplete": sse_reply(HALF, done=False),
    "reported": sse_reply([*HALF, {"error": {"message": "no"}}]),
    "silent": sse_reply([*HALF, Stall()], done=False),
    "no stream": json_reply({"detail": "no"}),
    "odd": reply(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failure_is_told_once_with_its_error(failure: str) -> None:
    client, watcher = watched(
        MemoryNetwork(FAILURES[failure]), timeouts=Timeouts(read=5), max_retries=0
    )
    async with client:
        with pytest.raises(penstock.PenstockError) as caught:
            async with client.chat.completions.stream(**REQUEST) as stream:
                await stream.collect()
    assert watcher.outcomes() == ["failed"]
    assert watcher.of("finished")[0].error is caught.value


@pytest.mark.parametrize("script", [reply(Stall()), sse_reply([*HALF, Stall()], done=False)])
@pytest.mark.parametrize("way", ["stream", "complete", "create"])
async def test_a_cancellation_is_told_once(script: Reply, way: str) -> None:
    client, watcher = watched(MemoryNetwork(script))
    async with client:
        with anyio.move_on_after(1):
            if way == "stream":
                async with client.chat.completions.stream(**REQUEST) as stream:
                    await stream.collect()
            elif way == "complete":
                await client.complete(REQUEST)
            else:
                await client.chat.completions.create(**REQUEST)
    assert watcher.outcomes() == ["cancelled"]
    assert watcher.of("finished")[0].error is None


@pytest.mark.parametrize("where", ["slot", "connect", "backoff"])
async def test_a_cancellation_before_anything_came(where: str) -> None:
    limiter = Limiter(1)
    network = MemoryNetwork(error_reply(503, headers={"retry-after": "9"}))
    network.stall = 9 if where == "connect" else 0
    client, watcher = watched(network, limiter=limiter)
    slot = await limiter.acquire()
    if where != "slot":
        slot.release()
    async with client:
        with anyio.move_on_after(1):
            async with client.chat.completions.stream(**REQUEST):
                pass
    slot.release()
    assert watcher.names[0] == "request_started"
    assert watcher.outcomes() == ["cancelled"]


@pytest.mark.parametrize("way", ["break", "raise", "aclose", "client"])
async def test_leaving_early_is_told_once_as_abandoned(way: str) -> None:
    client, watcher = watched(MemoryNetwork(sse_reply([*HALF, Stall()], done=False)))
    async with client:
        stream = client.chat.completions.stream(**REQUEST)
        try:
            if way in ("break", "raise"):
                async with stream:
                    await anext(stream)
                    if way == "raise":
                        raise KeyError
            else:
                await anext(stream)
                if way == "aclose":
                    await stream.aclose()
                else:
                    await client.aclose()
                    with pytest.raises(penstock.StreamClosedError):
                        await stream.collect()
        except KeyError:
            assert way == "raise"
        for _ in range(3):
            await stream.aclose()
    assert watcher.outcomes() == ["abandoned"]


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("when", ["unread", "read", "in back-off"])
async def test_a_stream_that_is_collected_is_told_as_abandoned(when: str) -> None:
    script = sse_reply([*HALF, Stall()], done=False)
    refusal = error_reply(503, headers={"retry-after": "9"})
    client, watcher = watched(MemoryNetwork(refusal if when == "in back-off" else script))
    async with client:
        stream = client.chat.completions.stream(**REQUEST)
        if when == "in back-off":
            with anyio.move_on_after(1):
                await anext(stream)
        else:
            await stream.fill()
        if when == "read":
            await anext(stream)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del stream
            gc.collect()
        # Not in the finalizer: an observer's locks may be held by the thread that runs it.
        assert watcher.outcomes() == []
        await anyio.sleep(1)
    assert watcher.outcomes() == ["abandoned"]


async def test_what_comes_after_the_end_tells_nothing_more() -> None:
    client, watcher = watched(MemoryNetwork(HELLO))
    async with client, client.chat.completions.stream(**REQUEST) as stream:
        await stream.collect()
        assert watcher.outcomes() == ["completed"]
        await stream.collect()
        await stream.aclose()
    assert watcher.outcomes() == ["completed"]


async def test_a_request_that_was_never_sent_is_none() -> None:
    client, watcher = watched(MemoryNetwork(HELLO))
    async with client:
        stream = client.chat.completions.stream(**REQUEST)
        await stream.aclose()
        with pytest.raises(ValueError, match="model"):
            await client.complete({"model": "", "messages": [1]})
    assert watcher.events == []


async def test_a_key_that_cannot_be_had_is_a_failure() -> None:
    def key() -> str:
        raise LookupError("the vault is shut")

    client, watcher = watched(MemoryNetwork(HELLO), api_key=key)
    async with client:
        with pytest.raises(LookupError):
            await client.complete(REQUEST)
        with pytest.raises(LookupError):
            await client.chat.completions.create(**REQUEST)
    assert watcher.outcomes() == ["failed", "failed"]


async def test_requests_have_different_numbers() -> None:
    client, watcher = watched(MemoryNetwork(HELLO))
    async with client:
        for _ in range(3):
            await client.complete(REQUEST)
    ids = [event.id for event in watcher.of("finished")]
    assert ids == sorted(set(ids))
    assert ids == [event.id for event in watcher.of("request_started")]


@pytest.mark.parametrize("model", [True, False])
async def test_an_observer_that_raises_harms_nothing(
    model: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            def method(event: object) -> None:
                raise RuntimeError(f"broken {name}")

            return method

    async with client_on(MemoryNetwork([error_reply(500), HELLO]), observer=Broken()) as client:
        answer = await client.complete(REQUEST)
    assert answer.choices[0].message.content == "Hello"
    told = [each.getMessage() for each in caplog.records if each.name == "penstock.observer"]
    assert len(told) == len(set(told)) == 7
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "name", ["request_started", "attempt_failed", "response_started", "first_token", "finished"]
)
async def test_any_one_of_the_methods_is_enough(name: str) -> None:
    heard: list[object] = []
    observer = type("One", (), {name: staticmethod(heard.append)})()
    async with client_on(MemoryNetwork([error_reply(500), HELLO]), observer=observer) as client:
        await client.complete(REQUEST)
    assert [type(event).__name__ for event in heard] == [
        name.title().replace("_", ""),
    ]


async def test_events_are_frozen_values() -> None:
    client, watcher = watched(MemoryNetwork([error_reply(500), HELLO]))
    async with client:
        await client.complete(REQUEST)
    for name, event in watcher.events:
        with pytest.raises(AttributeError):
            event.id = 5
        again = pickle.loads(pickle.dumps(event))
        assert (again.id, again.time) == (event.id, event.time), name
        assert KEY not in repr(event)


async def test_a_stream_on_its_own_loop_logs_no_more_than_it_should(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with client_on(MemoryNetwork(HELLO)) as client:
        await client.complete(REQUEST)
    assert [record for record in caplog.records if record.name.startswith("penstock")] == []
