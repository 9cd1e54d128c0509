"""The systems this library was ordered from (shared/SEEDS.md), each as it behaves, on real sockets.

A test's name is a row of that list; the servers are scripts with the shapes those systems send.
"""

from __future__ import annotations

import json
import os
from typing import Any

import anyio
import pytest

import penstock
from penstock import AsyncClient, ChatCompletion, CompletionStream, Timeouts
from penstock.testing.cuts import every_byte
from penstock.testing.replies import error_reply, json_reply, sse_reply
from penstock.testing.script import End, Pause, RecordedRequest, Reply, Reset, Stall
from penstock.testing.server import Server, closed_port, serve

pytestmark = pytest.mark.anyio

KEY = "pareta-key-0123456789"
MESSAGES = [{"role": "user", "content": "Write a haiku about rivers."}]
WORDS = ["Old", " river", " runs", "\n", "é…"]
TEXT = "".join(WORDS)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock._policy.retry.BACKOFF_FIRST", 0.002)


def chunk(choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-42",
        "object": "chat.completion.chunk",
        "created": 1717171717,
        "model": "llama-3-8b",
        "choices": choices,
        **more,
    }


def delta(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish}


def texts(*words: str, finish: str = "stop") -> list[dict[str, Any]]:
    return [
        chunk([delta({"role": "assistant"})]),
        *(chunk([delta({"content": word})]) for word in words),
        chunk([delta({}, finish)]),
    ]


COMPLETION = {
    "id": "chatcmpl-42",
    "object": "chat.completion",
    "created": 1717171717,
    "model": "llama-3-8b",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": TEXT},
            "finish_reason": "stop",
            "pareta_score": 0.5,
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
    "pareta": {"endpoint": "ep-1", "cold_start": False},
}


# --- Pareta ---


def pareta(request: RecordedRequest) -> Reply:
    """Its inference API and a bit of its control plane."""
    if request.headers.get("authorization") != f"Bearer {KEY}":
        return error_reply(401, "invalid API key")
    if request.target == "/v1/models":
        models = [
            {"id": name, "object": "model", "created": 1700000000 + n, "owned_by": "pareta"}
            for n, name in enumerate(["llama-3-8b", "mistral-7b"])
        ]
        return json_reply({"object": "list", "data": models})
    if request.target == "/v1/endpoints/ep-1/start":
        assert request.method == "POST"
        return json_reply({"id": "ep-1", "status": "starting"}, 202)
    assert (request.method, request.target) == ("POST", "/v1/chat/completions")
    body = request.json
    if body["model"] == "unknown":
        return error_reply(404, "the model `unknown` does not exist", code="model_not_found")
    if body["model"] == "stopped":
        return error_reply(503, "endpoint stopped", code="endpoint_not_ready")
    if body["model"] == "unpaid":
        return error_reply(402, "credits used up", code="insufficient_credits")
    if body["model"] == "busy":
        return error_reply(429, "slow down", headers={"retry-after": "0"})
    if not body.get("stream"):
        return json_reply(COMPLETION)
    return sse_reply(texts(*WORDS, finish="length" if "max_tokens" in body else "stop"))


def pareta_client(server: Server, **options: Any) -> AsyncClient:
    return AsyncClient.from_env("pareta", base_url=server.base_url, api_key=KEY, **options)


async def test_pareta_a_client_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(pareta) as server:
        monkeypatch.setenv("PARETA_API_KEY", KEY)
        monkeypatch.setenv("PARETA_BASE_URL", server.base_url)
        async with AsyncClient.from_env("pareta") as client:
            assert len(await client.models.list()) == 2
    monkeypatch.delenv("PARETA_BASE_URL")
    assert "https://api.pareta.ai:443/v1" in repr(AsyncClient.from_env("pareta"))
    monkeypatch.delenv("PARETA_API_KEY")
    with pytest.raises(ValueError, match="PARETA_API_KEY"):
        AsyncClient.from_env("pareta")


async def test_pareta_the_context_manager_releases_the_connection() -> None:
    async with serve(pareta) as server:
        async with pareta_client(server) as client:
            for _ in range(3):
                await client.models.list()
            assert server.open_connections == 1
        await server.wait_closed(1)
        assert len(server.connections) == 1


async def test_pareta_a_completion() -> None:
    async with serve(pareta) as server, pareta_client(server) as client:
        answer = await client.chat.completions.create(
            model="llama-3-8b", messages=MESSAGES, temperature=0.2
        )
        assert isinstance(answer, ChatCompletion)
        assert (answer.id, answer.model, answer.created) == (
            "chatcmpl-42",
            "llama-3-8b",
            1717171717,
        )
        (choice,) = answer.choices
        assert (choice.index, choice.finish_reason) == (0, "stop")
        assert (choice.message.role, choice.message.content) == ("assistant", TEXT)
        assert answer.usage is not None
        assert (
            answer.usage.prompt_tokens,
            answer.usage.completion_tokens,
            answer.usage.total_tokens,
        ) == (9, 5, 14)


async def test_pareta_every_response_keeps_the_raw_json() -> None:
    async with serve(pareta) as server, pareta_client(server) as client:
        answer = await client.chat.completions.create(model="llama-3-8b", messages=MESSAGES)
        assert answer.to_dict() == COMPLETION
        assert answer["pareta"]["endpoint"] == "ep-1"
        models = await client.models.list()
        assert models["data"][1]["id"] == "mistral-7b"
        stream = await client.chat.completions.create(
            model="llama-3-8b", messages=MESSAGES, stream=True
        )
        raw = [each.to_dict() async for each in stream]
        assert raw == texts(*WORDS)


async def test_pareta_streaming_prints_tokens_as_they_come() -> None:
    async with serve(pareta) as server, pareta_client(server) as client:
        stream = await client.chat.completions.create(
            model="llama-3-8b", messages=MESSAGES, stream=True
        )
        assert isinstance(stream, CompletionStream)
        assert server.connections == []  # nothing is sent before iteration begins
        contents: list[str | None] = []
        roles: list[str | None] = []
        finish: list[str | None] = []
        async for each in stream:
            assert (each.id, each.model) == ("chatcmpl-42", "llama-3-8b")
            contents.append(each.choices[0].delta.content)
            roles.append(each.choices[0].delta.role)
            finish.append(each.choices[0].finish_reason)
        assert contents == [None, *WORDS, None]
        assert roles == ["assistant"] + [None] * (len(WORDS) + 1)
        assert finish == [None] * (len(WORDS) + 1) + ["stop"]
        (request,) = server.requests
        assert request.json == {"model": "llama-3-8b", "messages": MESSAGES, "stream": True}


async def test_pareta_the_connection_stays_open_for_the_life_of_the_loop() -> None:
    slow = texts("a", "b")
    events: list[Any] = []
    for event in slow:
        events += [event, Pause(0.01)]
    async with serve(sse_reply(events)) as server, pareta_client(server) as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        async for _ in stream:
            assert server.open_connections == 1
        assert len(server.connections) == 1


async def test_pareta_collecting_the_deltas_and_the_token_limit() -> None:
    async with serve(pareta) as server, pareta_client(server) as client:
        parts: list[str] = []
        reason = None
        stream = await client.chat.completions.create(
            model="llama-3-8b", messages=MESSAGES, stream=True, max_tokens=5
        )
        async for each in stream:
            choice = each.choices[0]
            parts.append(choice.delta.content or "")
            reason = choice.finish_reason or reason
        assert ("".join(parts), reason) == (TEXT, "length")
        whole = await stream.collect()
        assert whole.choices[0].message.content == TEXT
        assert whole.choices[0].finish_reason == "length"


async def test_pareta_any_further_parameter_goes_verbatim() -> None:
    parameters: dict[str, Any] = {
        "temperature": 0.7,
        "max_tokens": 128,
        "top_p": 0.95,
        "stop": ["\n\n", "END"],
        "seed": 42,
        "frequency_penalty": 0.5,
    }
    async with serve(pareta) as server, pareta_client(server) as client:
        await client.chat.completions.create(model="llama-3-8b", messages=MESSAGES, **parameters)
        answer = await client.chat.completions.create(
            model="llama-3-8b", messages=MESSAGES, **parameters, stream=True
        )
        await answer.collect()
        base = {"model": "llama-3-8b", "messages": MESSAGES, **parameters}
        assert [request.json for request in server.requests] == [
            {**base, "stream": False},
            {**base, "stream": True},
        ]


@pytest.mark.parametrize(("model", "messages"), [("", MESSAGES), ("llama-3-8b", [])])
async def test_pareta_empty_arguments_are_refused_with_no_request(
    model: str, messages: list[Any]
) -> None:
    async with serve(pareta) as server, pareta_client(server) as client:
        for stream in (True, False):
            with pytest.raises(ValueError, match="empty"):
                await client.chat.completions.create(model=model, messages=messages, stream=stream)
        assert server.connections == []


@pytest.mark.parametrize(
    ("model", "kind", "status"),
    [
        ("unpaid", penstock.InsufficientCreditsError, 402),
        ("unknown", penstock.NotFoundError, 404),
        ("busy", penstock.RateLimitError, 429),
        ("stopped", penstock.EndpointNotReadyError, 503),
    ],
)
async def test_pareta_errors_come_when_the_stream_starts(
    model: str, kind: type[penstock.APIStatusError], status: int
) -> None:
    async with serve(pareta) as server, pareta_client(server, max_retries=0) as client:
        stream = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        seen = 0
        with pytest.raises(penstock.PenstockError) as caught:  # noqa: PT012
            async for _ in stream:
                seen += 1
        assert seen == 0
        assert type(caught.value) is kind
        assert caught.value.status_code == status
        with pytest.raises(kind):
            async with client.chat.completions.stream(model=model, messages=MESSAGES):
                raise AssertionError("never entered")
        with pytest.raises(kind):
            await client.chat.completions.create(model=model, messages=MESSAGES)
        assert len(server.requests) == 3


async def test_pareta_a_wrong_key() -> None:
    async with serve(pareta) as server, AsyncClient(server.base_url, api_key="wrong-000") as client:
        with pytest.raises(penstock.AuthenticationError) as caught:
            await client.models.list()
    assert isinstance(caught.value, penstock.PenstockError)
    assert "wrong-000" not in repr(caught.value)


async def test_pareta_branching_on_the_error() -> None:
    said: list[str] = []
    async with serve(pareta) as server, pareta_client(server, max_retries=0) as client:
        for model in ("unpaid", "stopped", "unknown"):
            try:
                await client.chat.completions.create(model=model, messages=MESSAGES)
            except penstock.InsufficientCreditsError:
                said.append("top up")
            except penstock.EndpointNotReadyError:
                answer = await client.request("POST", "/endpoints/ep-1/start")
                assert answer.status_code == 202
                said.append(answer.json()["status"])
            except penstock.PenstockError as error:
                said.append(type(error).__name__)
    assert said == ["top up", "starting", "NotFoundError"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("failure", ["429", "500", "503", "reset"])
async def test_pareta_transient_failures_are_retried(failure: str, stream: bool) -> None:
    at_once = {"retry-after-ms": "1"}
    fails = Reply((Reset(),)) if failure == "reset" else error_reply(int(failure), headers=at_once)
    good = sse_reply(texts(*WORDS)) if stream else json_reply(COMPLETION)
    async with serve([fails, good]) as server, pareta_client(server) as client:
        answer = await client.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
        if isinstance(answer, CompletionStream):
            answer = await answer.collect()
        assert answer.choices[0].message.content == TEXT
        assert len(server.requests) == 2


async def test_pareta_two_retries_and_then_the_error() -> None:
    busy = error_reply(429, headers={"retry-after-ms": "1"})
    async with serve(busy) as server, pareta_client(server) as client:
        with pytest.raises(penstock.RateLimitError):
            await client.chat.completions.create(model="m", messages=MESSAGES)
        assert len(server.requests) == 3
        with pytest.raises(penstock.RateLimitError):
            await client.chat.completions.create(model="m", messages=MESSAGES, max_retries=0)
        assert len(server.requests) == 4


async def test_pareta_nobody_is_there() -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    async with AsyncClient(url, api_key=KEY, max_retries=0) as client:
        with pytest.raises(penstock.APIConnectionError):
            await client.chat.completions.create(model="m", messages=MESSAGES)


@pytest.mark.parametrize("fault", [Reset(), End()])
async def test_pareta_a_drop_in_mid_stream_is_an_error_and_no_resume(fault: Any) -> None:
    cut = sse_reply([*texts("Old", " river")[:3], Pause(0.01), fault], done=False)
    async with serve(cut) as server, pareta_client(server) as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        seen: list[str] = []
        with pytest.raises(penstock.APIConnectionError) as caught:  # noqa: PT012
            async for text in stream.text:
                seen.append(text)
        assert "".join(seen) == "Old river"
        assert caught.value.partial is not None
        assert caught.value.partial.choices[0].message.content == "Old river"
        assert len(server.requests) == 1


async def test_pareta_a_silent_server_is_a_timeout() -> None:
    silent = sse_reply([*texts("Old")[:2], Stall()], done=False)
    timeouts = Timeouts(read=0.03)
    async with serve(silent) as server, pareta_client(server, timeouts=timeouts) as client:
        with pytest.raises(TimeoutError) as caught:
            await client.complete({"model": "m", "messages": MESSAGES})
        assert isinstance(caught.value, penstock.ReadTimeout)
        assert caught.value.partial is not None
        await server.wait_closed()
        assert len(server.requests) == 1


async def test_pareta_the_list_of_models() -> None:
    async with serve(pareta) as server, pareta_client(server) as client:
        models = await client.models.list()
        assert len(models) == 2
        assert [(model.id, model.owned_by, model.created) for model in models] == [
            ("llama-3-8b", "pareta", 1700000000),
            ("mistral-7b", "pareta", 1700000001),
        ]
        for model in models:
            await client.chat.completions.create(model=model.id, messages=MESSAGES)


async def test_pareta_the_control_plane() -> None:
    async with serve(pareta) as server, pareta_client(server) as client:
        answer = await client.request("POST", "/endpoints/ep-1/start")
        assert (answer.status_code, answer.json()) == (202, {"id": "ep-1", "status": "starting"})


async def test_pareta_in_the_plain_openai_shape() -> None:
    async with serve(pareta) as server:
        assert server.base_url.endswith("/v1")
        async with AsyncClient(server.base_url, api_key=KEY) as client:
            answer = await client.complete({"model": "llama-3-8b", "messages": MESSAGES})
            assert answer.choices[0].message.content == TEXT


# --- Oru-el ---


ORUEL_USAGE = {"prompt_tokens": 11, "completion_tokens": 6, "total_tokens": 17}


def oruel(*chunks: dict[str, Any], done: bool = True) -> Reply:
    """First chunk with the role, last one with usage that nobody asked for."""
    *first, last = chunks
    return sse_reply([*first, {**last, "usage": ORUEL_USAGE}], done=done)


def oruel_client(server: Server, **options: Any) -> AsyncClient:
    base_url = server.base_url.replace("/v1", "/v1/inference")
    return AsyncClient(base_url, api_key=KEY, provider=penstock.providers.ORUEL, **options)


async def test_oruel_packets_may_end_anywhere() -> None:
    answer = every_byte(oruel(*texts(*WORDS)))
    async with serve(answer) as server, oruel_client(server) as client:
        completion = await client.complete({"model": "oru-1", "messages": MESSAGES})
        assert completion.choices[0].message.content == TEXT
        assert completion.choices[0].message.role == "assistant"
        (request,) = server.requests
        assert request.target == "/v1/inference/chat/completions"
        assert request.json == {"model": "oru-1", "messages": MESSAGES, "stream": True}


async def test_oruel_usage_comes_last_without_asking() -> None:
    async with serve(oruel(*texts("a"))) as server, oruel_client(server) as client:
        stream = client.chat.completions.stream(model="oru-1", messages=MESSAGES)
        async with stream:
            usages = [each.usage async for each in stream]
        assert [usage is not None for usage in usages] == [False, False, True]
        assert stream.partial.usage is not None
        assert stream.partial.usage.total_tokens == 17


async def test_oruel_the_end_is_done_or_a_finish_reason() -> None:
    both = [oruel(*texts("a")), oruel(*texts("a"), done=False)]
    async with serve(both) as server, oruel_client(server) as client:
        for _ in both:
            answer = await client.complete({"model": "oru-1", "messages": MESSAGES})
            assert answer.choices[0].finish_reason == "stop"
    neither = sse_reply(texts("a")[:-1], done=False)
    async with serve(neither) as server, oruel_client(server) as client:
        with pytest.raises(penstock.IncompleteStreamError):
            await client.complete({"model": "oru-1", "messages": MESSAGES})


def call_pieces(name: str, arguments: list[str], index: int = 0) -> list[dict[str, Any]]:
    first = {
        "index": index,
        "id": f"call_{index}",
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    pieces = [{"index": index, "function": {"arguments": piece}} for piece in arguments]
    return [chunk([delta({"tool_calls": [piece]})]) for piece in [first, *pieces]]


async def test_oruel_a_tool_call_over_several_chunks() -> None:
    answer = oruel(
        chunk([delta({"role": "assistant", "content": None})]),
        *call_pieces("get_weather", ['{"ci', 'ty": "Os', 'lo"}']),
        chunk([delta({}, "tool_calls")]),
    )
    async with serve(answer) as server, oruel_client(server) as client:
        whole = await client.complete({"model": "oru-1", "messages": MESSAGES})
    (call,) = whole.choices[0].message.tool_calls or []
    assert (call.id, call.type, call.function.name) == ("call_0", "function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    assert whole.choices[0].finish_reason == "tool_calls"


async def test_oruel_after_a_disconnect_a_new_request_starts_anew() -> None:
    cut = sse_reply([*texts("Old", " river")[:3], Reset()], done=False)
    async with serve([cut, oruel(*texts("New"))]) as server, oruel_client(server) as client:
        request = {"model": "oru-1", "messages": MESSAGES}
        with pytest.raises(penstock.StreamInterruptedError):
            await client.complete(request)
        assert len(server.requests) == 1
        answer = await client.complete(request)
        assert answer.choices[0].message.content == "New"
        assert server.requests[0].body == server.requests[1].body


# --- the OpenAI shape ---


def openai_chunk(choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return chunk(
        [{"logprobs": None, **choice} for choice in choices],
        service_tier="default",
        system_fingerprint="fp_44709d6fcb",
        **{"usage": None, **more},
    )


OPENAI_USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 4,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


def openai_client(server: Server, **options: Any) -> AsyncClient:
    return AsyncClient(server.base_url, api_key=KEY, **options)


async def test_openai_every_field_of_a_chunk() -> None:
    logprobs = {
        "content": [
            {
                "token": "Hi",
                "logprob": -0.25,
                "bytes": [72, 105],
                "top_logprobs": [{"token": "Hey", "logprob": -1.5, "bytes": [72, 101, 121]}],
            }
        ],
        "refusal": None,
    }
    events = [
        openai_chunk([delta({"role": "assistant", "content": "", "refusal": None})]),
        openai_chunk([{**delta({"content": "Hi"}), "logprobs": logprobs}]),
        openai_chunk([delta({}, "stop")]),
        openai_chunk([], usage=OPENAI_USAGE),
    ]
    async with serve(sse_reply(events)) as server, openai_client(server) as client:
        async with client.chat.completions.stream(
            model="gpt", messages=MESSAGES, stream_options={"include_usage": True}, logprobs=True
        ) as stream:
            chunks = [each async for each in stream]
            whole = stream.partial
        assert server.requests[0].json["stream_options"] == {"include_usage": True}
    assert {(each.id, each.created, each.object) for each in chunks} == {
        ("chatcmpl-42", 1717171717, "chat.completion.chunk")
    }
    assert {each.service_tier for each in chunks} == {"default"}
    assert {each.system_fingerprint for each in chunks} == {"fp_44709d6fcb"}
    seen = chunks[1].choices[0].logprobs
    assert seen is not None
    assert seen.content is not None
    assert (seen.content[0].token, seen.content[0].logprob) == ("Hi", -0.25)
    assert seen.content[0].bytes == [72, 105]
    assert seen.content[0].top_logprobs[0].token == "Hey"
    assert [each.usage is None for each in chunks] == [True, True, True, False]
    assert chunks[3].choices == []
    usage = whole.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (19, 10, 29)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 3
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 4
    assert (whole.service_tier, whole.system_fingerprint) == ("default", "fp_44709d6fcb")
    assert whole.choices[0].logprobs == seen
    assert [each.to_dict() for each in chunks] == events


async def test_openai_several_choices() -> None:
    events = [
        *(openai_chunk([delta({"role": "assistant", "content": ""}, index=n)]) for n in range(3)),
        *(openai_chunk([delta({"content": f"{n}{k}"}, index=n)]) for k in "ab" for n in range(3)),
        openai_chunk([delta({}, "length", 1)]),
        openai_chunk([delta({}, "stop", 0)]),
        openai_chunk([delta({}, "content_filter", 2)]),
    ]
    async with serve(sse_reply(events)) as server, openai_client(server) as client:
        whole = await client.complete({"model": "gpt", "messages": MESSAGES, "n": 3})
    assert [
        (choice.index, choice.message.content, choice.finish_reason) for choice in whole.choices
    ] == [(0, "0a0b", "stop"), (1, "1a1b", "length"), (2, "2a2b", "content_filter")]


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter"])
async def test_openai_finish_reasons(reason: str) -> None:
    async with (
        serve(sse_reply(texts("a", finish=reason))) as server,
        openai_client(server) as client,
    ):
        reasons = []
        async with client.chat.completions.stream(model="gpt", messages=MESSAGES) as stream:
            async for each in stream:
                reasons.append(each.choices[0].finish_reason)
    assert reasons == [None, None, reason]


async def test_openai_function_calls_in_pieces() -> None:
    first = call_pieces("get_weather", ['{"city":', ' "Oslo"}'])
    second = call_pieces("get_time", ['{"zone": "CET"', "}"], index=1)
    events = [
        openai_chunk([delta({"role": "assistant", "content": None})]),
        *first,
        *second,
        openai_chunk([delta({}, "tool_calls")]),
    ]
    async with serve(sse_reply(events)) as server, openai_client(server) as client:
        arguments: dict[int, str] = {}
        names: dict[int, str] = {}
        async with client.chat.completions.stream(model="gpt", messages=MESSAGES) as stream:
            async for each in stream:
                for call in each.choices[0].delta.tool_calls or []:
                    assert call.index is not None
                    assert call.function is not None
                    names[call.index] = names.get(call.index, "") + (call.function.name or "")
                    arguments[call.index] = arguments.get(call.index, "") + (
                        call.function.arguments or ""
                    )
            calls = stream.partial.choices[0].message.tool_calls or []
    assert names == {0: "get_weather", 1: "get_time"}
    assert [json.loads(text) for text in arguments.values()] == [{"city": "Oslo"}, {"zone": "CET"}]
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        (f"call_{n}", names[n], arguments[n]) for n in range(2)
    ]


async def test_openai_accumulation_into_a_whole_message() -> None:
    async with serve(sse_reply(texts(*WORDS))) as server, openai_client(server) as client:
        async with client.chat.completions.stream(model="gpt", messages=MESSAGES) as stream:
            async for _ in stream:
                break
            assert stream.partial.choices[0].message.content in (None, "")
            whole = await stream.collect()
        message = whole.choices[0].message
        assert (message.role, message.content) == ("assistant", TEXT)
        await client.complete({"model": "gpt", "messages": [*MESSAGES, message, *MESSAGES]})
        assert server.requests[1].json["messages"][1] == {"role": "assistant", "content": TEXT}


@pytest.mark.parametrize("place", ["before", "in the middle"])
async def test_openai_errors_inside_a_try_block_around_the_loop(place: str) -> None:
    if place == "before":
        script = error_reply(400, "bad request", code="context_length_exceeded")
    else:
        script = sse_reply([*texts("a")[:2], {"error": {"message": "overloaded", "code": 503}}])
    caught: penstock.PenstockError | None = None
    async with serve(script) as server, openai_client(server) as client:
        stream = await client.chat.completions.create(model="gpt", messages=MESSAGES, stream=True)
        try:
            async for _ in stream:
                pass
        except penstock.PenstockError as error:
            caught = error
    if place == "before":
        assert isinstance(caught, penstock.BadRequestError)
        assert caught.code == "context_length_exceeded"
    else:
        assert isinstance(caught, penstock.StreamError)
        assert caught.partial is not None
        assert caught.partial.choices[0].message.content == "a"


# --- Tensoras ---


TENSORAS_USAGE = {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12}


def tensoras(*chunks: dict[str, Any]) -> Reply:
    """Its last chunk has the finish_reason, an empty delta and the usage."""
    *first, last = chunks
    return sse_reply([*first, {**last, "usage": TENSORAS_USAGE}])


def tensoras_client(server: Server) -> AsyncClient:
    return AsyncClient(server.base_url, api_key=KEY, provider=penstock.providers.TENSORAS)


async def test_tensoras_usage_with_the_finish_reason() -> None:
    async with serve(tensoras(*texts(*WORDS))) as server, tensoras_client(server) as client:
        async with client.chat.completions.stream(
            model="t", messages=MESSAGES, stream_options={"include_usage": True}
        ) as stream:
            chunks = [each async for each in stream]
        last = chunks[-1]
        assert last.choices[0].finish_reason == "stop"
        assert last.choices[0].delta.content is None
        assert last.usage is not None
        assert last.usage.total_tokens == 12
        assert stream.partial.usage == last.usage
        assert server.requests[0].json["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_tensoras_reasoning_models_stream(field: str) -> None:
    answer = tensoras(
        chunk([delta({"role": "assistant"})]),
        chunk([delta({field: "Let me "})]),
        chunk([delta({field: "think."})]),
        chunk([delta({"content": "42"})]),
        chunk([delta({}, "stop")]),
    )
    async with serve(answer) as server, tensoras_client(server) as client:
        whole = await client.complete({"model": "t-reason", "messages": MESSAGES})
    message = whole.choices[0].message
    assert (message.reasoning, message.content) == ("Let me think.", "42")


async def test_tensoras_tool_calls_stream() -> None:
    answer = tensoras(
        chunk([delta({"role": "assistant"})]),
        *call_pieces("search", ['{"q": ', '"rivers"}']),
        chunk([delta({}, "tool_calls")]),
    )
    tools = [{"type": "function", "function": {"name": "search", "parameters": {}}}]
    async with serve(answer) as server, tensoras_client(server) as client:
        whole = await client.complete({"model": "t", "messages": MESSAGES, "tools": tools})
        assert server.requests[0].json["tools"] == tools
    (call,) = whole.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"q": "rivers"}


@pytest.mark.parametrize(
    "mode",
    [
        {"type": "json_object"},
        {
            "type": "json_schema",
            "json_schema": {"name": "river", "strict": True, "schema": {"type": "object"}},
        },
    ],
)
async def test_tensoras_json_modes_while_streaming(mode: dict[str, Any]) -> None:
    pieces = ['{"na', 'me": "El', 'be", "km": 1094', "}"]
    async with serve(tensoras(*texts(*pieces))) as server, tensoras_client(server) as client:
        whole = await client.complete({"model": "t", "messages": MESSAGES, "response_format": mode})
        assert server.requests[0].json["response_format"] == mode
    assert json.loads(whole.choices[0].message.content or "") == {"name": "Elbe", "km": 1094}


# --- all of them ---


@pytest.mark.parametrize("provider", ["openai", "pareta", "oruel", "tensoras"])
async def test_leaving_a_stream_stops_the_server(provider: str) -> None:
    endless = sse_reply([*texts("a")[:2], Stall()], done=False)
    async with serve(endless) as server:
        client = AsyncClient.from_env(provider, base_url=server.base_url, api_key=KEY)
        async with client:
            async with client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
                async for _ in stream:
                    break
            with anyio.fail_after(2):
                await server.wait_closed()
            assert server.connections[0].ended == "client closed"
