"""`client.chat.completions` and `client.models`."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import penstock
from penstock import CompletionStream, StreamState, Timeouts
from penstock.testing.cuts import every_byte
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import (
    completion,
    error_reply,
    json_reply,
    sse_reply,
    status_reply,
    tokens,
)
from penstock.testing.script import Pause, Reset, Send, Stall, reply
from tests.support.chat import MESSAGES, REQUEST, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))
WHOLE = json_reply(completion("Hello", usage={"prompt_tokens": 3, "total_tokens": 5}))


# --- create ---


async def test_a_completion_received_as_one() -> None:
    network = MemoryNetwork(WHOLE)
    async with client_on(network) as client:
        answer = await client.chat.completions.create(**REQUEST)
    assert answer.id == "chatcmpl-1"
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 5)
    assert answer.to_dict() == completion("Hello", usage={"prompt_tokens": 3, "total_tokens": 5})
    assert answer["object"] == "chat.completion"
    (request,) = network.requests
    assert request.json == {**REQUEST, "stream": False}
    assert request.headers["accept"] == "application/json"


async def test_a_body_in_pieces_and_chunks() -> None:
    whole = json_reply(completion("Hello"), chunked=True)
    async with client_on(MemoryNetwork(every_byte(whole))) as client:
        answer = await client.chat.completions.create(**REQUEST)
    assert answer.choices[0].message.content == "Hello"


PARAMS: dict[str, Any] = {
    "temperature": 0.3,
    "max_tokens": 16,
    "top_p": 0.9,
    "stop": ["\n", "é"],
    "seed": 7,
    "frequency_penalty": -1,
    "n": 2,
    "user": None,
    "stream_options": {"include_usage": True},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "response_format": {"type": "json_object"},
    "vendor_extra": {"deep": [1, {"er": False}]},
}


async def test_any_further_keyword_goes_into_the_body_as_it_is() -> None:
    network = MemoryNetwork([WHOLE, HELLO, HELLO])
    async with client_on(network) as client:
        await client.chat.completions.create(**REQUEST, **PARAMS)
        await (await client.chat.completions.create(**REQUEST, **PARAMS, stream=True)).collect()
        async with client.chat.completions.stream(**REQUEST, **PARAMS) as stream:
            await stream.collect()
    plain, *streamed = [request.json for request in network.requests]
    assert plain == {**REQUEST, **PARAMS, "stream": False}
    assert streamed == [{**REQUEST, **PARAMS, "stream": True}] * 2


@dataclass
class Turn:
    role: str
    content: str


async def test_an_answer_goes_back_into_the_next_request() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }
    first = completion()
    first["choices"][0]["message"] = message
    network = MemoryNetwork([json_reply(first), WHOLE])
    async with client_on(network) as client:
        answer = await client.chat.completions.create(**REQUEST)
        turns = [Turn("user", "Hi"), answer.choices[0].message, *MESSAGES]
        await client.chat.completions.create(model="m", messages=turns)
    sent = network.requests[1].json["messages"]
    assert sent[0] == {"role": "user", "content": "Hi"}
    assert sent[1] == {name: value for name, value in message.items() if value is not None}
    assert sent[2] == MESSAGES[0]


async def test_create_with_stream_gives_a_stream_that_has_sent_nothing() -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        stream = await client.chat.completions.create(**REQUEST, stream=True)
        assert isinstance(stream, CompletionStream)
        assert stream.state is StreamState.NEW
        await anyio.sleep(5)
        assert network.connects == []
        texts = [text async for text in stream.text]
        assert texts == ["Hel", "lo"]
        assert len(network.requests) == 1
        # One that is never read sends nothing, and needs no closing.
        await client.chat.completions.create(**REQUEST, stream=True)
        client.chat.completions.stream(**REQUEST)
    assert len(network.requests) == 1


async def test_create_is_sent_again_before_its_body() -> None:
    network = MemoryNetwork([error_reply(503), reply(Reset()), error_reply(429), WHOLE])
    async with client_on(network, max_retries=3) as client:
        answer = await client.chat.completions.create(**REQUEST)
    assert answer.choices[0].message.content == "Hello"
    assert [request.json for request in network.requests] == [{**REQUEST, "stream": False}] * 4


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_how_often_is_up_to_the_caller(retries: int) -> None:
    network = MemoryNetwork(error_reply(500))
    async with client_on(network) as client:
        for call in (client.chat.completions.create, client.models.list):
            arguments = {} if call == client.models.list else REQUEST
            with pytest.raises(penstock.InternalServerError):
                await call(**arguments, max_retries=retries)
    assert len(network.requests) == 2 * (retries + 1)


async def test_a_body_that_breaks_off_is_not_asked_for_again() -> None:
    cut = reply(Send(WHOLE.data[:-5]), Reset())
    network = MemoryNetwork([cut, WHOLE])
    async with client_on(network) as client:
        with pytest.raises(penstock.StreamInterruptedError):
            await client.chat.completions.create(**REQUEST)
    assert len(network.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no such model", "code": "model_not_found", "type": "invalid"}},
        {"error": "no such model"},
        {"object": "error", "message": "no such model", "code": 404},
    ],
)
async def test_an_error_with_a_success_status(body: dict[str, Any]) -> None:
    network = MemoryNetwork(json_reply(body, headers={"x-request-id": "req-5"}))
    async with client_on(network) as client:
        for call in (client.chat.completions.create(**REQUEST), client.models.list()):
            with pytest.raises(penstock.StreamError, match="no such model") as caught:
                await call
            assert caught.value.request_id == "req-5"
            assert caught.value.body == body
            assert pickle.loads(pickle.dumps(caught.value)).body == body
    assert len(network.requests) == 2


async def test_the_word_error_in_an_answer_is_none() -> None:
    whole = completion('{"error": "quoted"}')
    whole["error"] = None
    async with client_on(MemoryNetwork(json_reply(whole))) as client:
        answer = await client.chat.completions.create(**REQUEST)
    assert answer.choices[0].message.content == '{"error": "quoted"}'


@pytest.mark.parametrize(
    "answer",
    [
        status_reply(200, b""),
        status_reply(200, b"<html><title>Welcome</title></html>"),
        status_reply(200, b'{"choices": ['),
        status_reply(200, b"5"),
        status_reply(200, b'"text"'),
        reply(b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
async def test_a_success_that_is_no_completion(answer: Any) -> None:
    network = MemoryNetwork(answer)
    async with client_on(network) as client:
        for call in (client.chat.completions.create(**REQUEST), client.models.list()):
            with pytest.raises(penstock.APIResponseError) as caught:
                await call
            assert caught.value.status_code in (200, 204)
            assert "\n" not in str(caught.value)
            again = pickle.loads(pickle.dumps(caught.value))
            assert (again.body, str(again)) == (caught.value.body, str(caught.value))


async def test_without_streaming_tokens_have_no_deadline_but_the_rest_has() -> None:
    quick = Timeouts(first_token=0.5, idle=0.5, read=10)
    async with client_on(MemoryNetwork(WHOLE.after(5)), timeouts=quick) as client:
        await client.chat.completions.create(**REQUEST)
        assert anyio.current_time() == pytest.approx(5, abs=0.1)
    for timeouts, kind, seconds in [
        (Timeouts(read=3), penstock.ReadTimeout, 3),
        (Timeouts(total=2), penstock.TotalTimeout, 2),
    ]:
        began = anyio.current_time()
        network = MemoryNetwork(reply(Stall()))
        async with client_on(network) as client:
            with pytest.raises(kind):
                await client.chat.completions.create(**REQUEST, timeouts=timeouts)
        assert anyio.current_time() - began == pytest.approx(seconds, abs=1e-3)
        assert network.open_connections == 0


async def test_a_cancelled_create_leaves_nothing_open() -> None:
    network = MemoryNetwork(WHOLE.after(100))
    watcher = Watcher()
    async with client_on(network, observer=watcher) as client:
        with anyio.move_on_after(1) as scope:
            await client.chat.completions.create(**REQUEST)
        assert scope.cancelled_caught
        assert network.open_connections == 0
    assert watcher.outcomes() == ["cancelled"]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"model": "", "messages": MESSAGES}, ValueError),
        ({"model": None, "messages": MESSAGES}, ValueError),
        ({"model": "m", "messages": []}, ValueError),
        ({"model": "m", "messages": None}, ValueError),
        ({"model": "m", "messages": "Hello"}, TypeError),
        ({"model": 5, "messages": MESSAGES}, TypeError),
        ({"model": "m"}, TypeError),
        ({"messages": MESSAGES}, TypeError),
        ({**REQUEST, "timeouts": 3}, TypeError),
        ({**REQUEST, "max_retries": -1}, ValueError),
        ({**REQUEST, "max_retries": True}, ValueError),
        ({**REQUEST, "extra_headers": {"a": "b\n"}}, ValueError),
        ({**REQUEST, "stop": {object()}}, TypeError),
        ({**REQUEST, "user": "\ud800"}, ValueError),
    ],
)
async def test_bad_arguments_are_refused_before_any_io(
    arguments: dict[str, Any], kind: type[Exception]
) -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        with pytest.raises(kind):
            client.chat.completions.stream(**arguments)
        for stream in (True, False):
            with pytest.raises(kind):
                await client.chat.completions.create(**arguments, stream=stream)
    assert network.connects == []
    assert network.requests == []


# --- models ---


MODELS = [
    {"id": "a", "object": "model", "created": 1, "owned_by": "me", "vendor": {"x": 1}},
    {"id": "b", "object": "model", "created": 2, "owned_by": "you"},
]


async def test_the_list_of_models() -> None:
    network = MemoryNetwork([json_reply({"object": "list", "data": MODELS}), HELLO])
    async with client_on(network) as client:
        models = await client.models.list()
        assert len(models) == 2
        assert [(model.id, model.owned_by, model.created) for model in models] == [
            ("a", "me", 1),
            ("b", "you", 2),
        ]
        assert models.to_dict() == {"object": "list", "data": MODELS}
        assert models["data"] == MODELS
        assert models[0].to_dict() == MODELS[0]
        assert models[0]["vendor"] == {"x": 1}
        await client.complete({**REQUEST, "model": models[1].id})
    first, second = network.requests
    assert (first.method, first.target, first.body) == ("GET", "/v1/models", b"")
    assert "content-type" not in first.headers
    assert second.json["model"] == "b"


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ({"data": []}, []),
        ({"object": "list", "data": None}, []),
        ([], []),
        (MODELS, ["a", "b"]),
        ({"data": [{"id": "x"}]}, ["x"]),
        ({"data": [{"id": "x", "created": 1.5, "owned_by": None}]}, ["x"]),
        ({"data": ["x", "y"]}, ["x", "y"]),
    ],
)
async def test_lists_as_servers_shape_them(body: Any, ids: list[str]) -> None:
    async with client_on(MemoryNetwork(json_reply(body))) as client:
        models = await client.models.list()
    assert [model.id for model in models] == ids
    assert len(models) == len(ids)
    assert bool(models) == bool(ids)


# --- what a stream knows ---


async def test_what_is_known_of_a_stream_and_its_numbers() -> None:
    events: list[Any] = [Pause(1)]
    for event in tokens("a", "b", usage={"total_tokens": 2}):
        events += [event, Pause(1)]
    answer = sse_reply([b": ping\n\n", *events], headers={"x-request-id": "req-3"})
    network = MemoryNetwork(answer.after(2))
    async with client_on(network, timeouts=Timeouts(trailing=5)) as client:
        stream = client.chat.completions.stream(**REQUEST)
        before = stream.statistics()
        assert (before.attempts, before.events, before.bytes) == (0, 0, 0)
        assert before.headers is before.first_byte is before.first_token is before.total is None
        assert stream.status_code is None
        assert stream.request_id is None
        assert len(stream.headers) == 0
        async with stream:
            assert [stream.status_code, stream.request_id] == [200, "req-3"]
            assert stream.headers["Content-Type"] == "text/event-stream"
            chunks = 0
            async for _ in stream:
                chunks += 1
                await anyio.sleep(0.25)
        after = stream.statistics()
        assert stream.state is StreamState.COMPLETED
    assert chunks == 5
    assert after.attempts == 1
    assert after.events == 5
    assert after.headers == pytest.approx(2, abs=0.01)
    assert after.first_byte == pytest.approx(2, abs=0.01)
    assert after.first_token == pytest.approx(4, abs=0.01)
    assert after.total == pytest.approx(8, abs=0.01)
    assert after.bytes == network.connections[0].bytes_sent - len(
        answer.data[: answer.data.index(b"\r\n\r\n") + 4]
    )
    assert after.waited_for_consumer == pytest.approx(5 * 0.25, abs=0.3)
    assert pickle.loads(pickle.dumps(after)) == after


async def test_numbers_of_a_request_that_was_sent_again() -> None:
    network = MemoryNetwork([error_reply(500), error_reply(500), HELLO])
    async with client_on(network) as client:
        async with client.chat.completions.stream(**REQUEST) as stream:
            await stream.collect()
        statistics = stream.statistics()
    assert statistics.attempts == 3
    assert statistics.headers is not None
    assert statistics.headers > 0.7  # both backoffs are in it


# --- arguments that are easily mistaken ---


async def test_extra_body_is_merged_and_extra_query_goes_into_the_url() -> None:
    network = MemoryNetwork([WHOLE, HELLO, HELLO, HELLO])
    extra: dict[str, Any] = {"extra_body": {"top_k": 3}, "extra_query": {"api-version": "1 2"}}
    async with client_on(network, default_query={"a": 1, "api-version": "0"}) as client:
        completions = client.chat.completions
        await completions.create(**REQUEST, **extra)
        await completions.stream(**REQUEST, **extra).collect()
        await client.complete({**REQUEST, **extra})
        await client.complete(REQUEST)
    *with_extra, without = network.requests
    for request in with_extra:
        assert request.target == "/v1/chat/completions?a=1&api-version=1%202"
        assert request.json == {**REQUEST, "top_k": 3, "stream": request is not with_extra[0]}
    assert without.target == "/v1/chat/completions?a=1&api-version=0"


async def test_a_query_of_the_base_url_is_sent_with_every_request() -> None:
    network = MemoryNetwork([HELLO, json_reply({"data": []})])
    async with client_on(network, "http://api.test/openai?api-version=2025") as client:
        await client.complete(REQUEST)
        await client.models.list()
        assert "2025" not in repr(client)
    assert [request.target for request in network.requests] == [
        "/openai/chat/completions?api-version=2025",
        "/openai/models?api-version=2025",
    ]


@pytest.mark.parametrize(
    ("extra", "kind", "reason"),
    [
        ({"timeout": 5}, TypeError, "timeouts="),
        ({"extra_body": []}, TypeError, "extra_body"),
        ({"extra_body": {"stream": None}}, ValueError, "stream"),
        ({"extra_query": "a=b"}, TypeError, "extra_query"),
        ({"temperature": float("nan")}, ValueError, "temperature is nan"),
        ({"logit_bias": {"50256": float("-inf")}}, ValueError, r"logit_bias\.50256 is -inf"),
        ({"extra_body": {"x": [1, float("inf")]}}, ValueError, r"x\.1 is inf"),
    ],
)
async def test_what_is_refused_before_any_io(
    extra: dict[str, Any], kind: type[Exception], reason: str
) -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        with pytest.raises(kind, match=reason):
            await client.chat.completions.create(**REQUEST, **extra)
        with pytest.raises(kind, match=reason):
            client.chat.completions.stream(**REQUEST, **extra)
        with pytest.raises(kind, match=reason):
            await client.complete({**REQUEST, **extra})
        with pytest.raises(kind, match=reason):
            await client.chat.completions.parse(**REQUEST, response_format=int, **extra)
    assert network.connects == []


async def test_a_slip_warns_at_the_callers_own_line() -> None:
    network = MemoryNetwork([WHOLE, HELLO, HELLO])
    async with client_on(network) as client:
        slip: dict[str, Any] = {**REQUEST, "temprature": 0.5}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await client.chat.completions.create(**slip)
            await client.chat.completions.stream(**slip).collect()
            await client.complete(slip)
    assert [warning.filename for warning in caught] == [__file__] * 3
    assert all("did you mean temperature" in str(warning.message) for warning in caught)
    assert [request.json["temprature"] for request in network.requests] == [0.5] * 3


async def test_complete_takes_keywords_a_mapping_or_both() -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        await client.complete(**REQUEST, temperature=1)
        await client.complete(REQUEST, temperature=1)
        await client.complete({**REQUEST, "temperature": 0}, temperature=1)
        with pytest.raises(ValueError, match="model is empty"):
            await client.complete()
    first, *others = [request.json for request in network.requests]
    assert first["temperature"] == 1
    assert others == [first, first]
