"""The systems this library was ordered from (shared/SEEDS.md), for callers that block.

Row by row the twin of `test_seeds`, with the servers from there.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

import penstock
from penstock import ChatCompletion, Client, Timeouts
from penstock.blocking import Stream
from penstock.testing.cuts import every_byte
from penstock.testing.replies import error_reply, json_reply, sse_reply
from penstock.testing.script import End, Pause, Reply, Reset, Stall
from penstock.testing.server import Server, becomes_true, closed_port, serve_in_thread

from .test_seeds import (
    COMPLETION,
    KEY,
    MESSAGES,
    OPENAI_USAGE,
    TEXT,
    WORDS,
    call_pieces,
    chunk,
    delta,
    no_settings,
    openai_chunk,
    oruel,
    pareta,
    short_backoff,
    tensoras,
    texts,
)

__all__ = ["no_settings", "short_backoff"]


# --- Pareta ---


def pareta_client(server: Server, **options: Any) -> Client:
    return Client.from_env("pareta", base_url=server.base_url, api_key=KEY, **options)


def test_pareta_a_client_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_in_thread(pareta) as server:
        monkeypatch.setenv("PARETA_API_KEY", KEY)
        monkeypatch.setenv("PARETA_BASE_URL", server.base_url)
        with Client.from_env("pareta") as client:
            assert len(client.models.list()) == 2
    monkeypatch.delenv("PARETA_BASE_URL")
    assert "https://api.pareta.ai:443/v1" in repr(Client.from_env("pareta"))
    monkeypatch.delenv("PARETA_API_KEY")
    with pytest.raises(ValueError, match="PARETA_API_KEY"):
        Client.from_env("pareta")


def test_pareta_the_context_manager_releases_the_connection() -> None:
    with serve_in_thread(pareta) as server:
        with pareta_client(server) as client:
            for _ in range(3):
                client.models.list()
            assert server.open_connections == 1
        assert becomes_true(lambda: server.open_connections == 0)
        assert len(server.connections) == 1


def test_pareta_a_completion() -> None:
    with serve_in_thread(pareta) as server, pareta_client(server) as client:
        answer = client.chat.completions.create(
            model="llama-3-8b", messages=MESSAGES, temperature=0.2
        )
    assert isinstance(answer, ChatCompletion)
    assert (answer.id, answer.model, answer.created) == ("chatcmpl-42", "llama-3-8b", 1717171717)
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert (choice.message.role, choice.message.content) == ("assistant", TEXT)
    usage = answer.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 5, 14)


def test_pareta_every_response_keeps_the_raw_json() -> None:
    with serve_in_thread(pareta) as server, pareta_client(server) as client:
        answer = client.chat.completions.create(model="llama-3-8b", messages=MESSAGES)
        assert answer.to_dict() == COMPLETION
        assert answer["pareta"]["endpoint"] == "ep-1"
        assert client.models.list()["data"][1]["id"] == "mistral-7b"
        stream = client.chat.completions.create(model="llama-3-8b", messages=MESSAGES, stream=True)
        assert [each.to_dict() for each in stream] == texts(*WORDS)


def test_pareta_streaming_prints_tokens_as_they_come() -> None:
    with serve_in_thread(pareta) as server, pareta_client(server) as client:
        stream = client.chat.completions.create(model="llama-3-8b", messages=MESSAGES, stream=True)
        assert isinstance(stream, Stream)
        assert server.connections == []  # nothing is sent before iteration begins
        contents: list[str | None] = []
        roles: list[str | None] = []
        finish: list[str | None] = []
        for each in stream:
            assert (each.id, each.model) == ("chatcmpl-42", "llama-3-8b")
            contents.append(each.choices[0].delta.content)
            roles.append(each.choices[0].delta.role)
            finish.append(each.choices[0].finish_reason)
        assert contents == [None, *WORDS, None]
        assert roles == ["assistant"] + [None] * (len(WORDS) + 1)
        assert finish == [None] * (len(WORDS) + 1) + ["stop"]
        (request,) = server.requests
        assert request.json == {"model": "llama-3-8b", "messages": MESSAGES, "stream": True}


def test_pareta_the_connection_stays_open_for_the_life_of_the_loop() -> None:
    events: list[Any] = []
    for event in texts("a", "b"):
        events += [event, Pause(0.01)]
    with serve_in_thread(sse_reply(events)) as server, pareta_client(server) as client:
        for _ in client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
            assert server.open_connections == 1
        assert len(server.connections) == 1


def test_pareta_collecting_the_deltas_and_the_token_limit() -> None:
    with serve_in_thread(pareta) as server, pareta_client(server) as client:
        parts: list[str] = []
        reason = None
        stream = client.chat.completions.create(
            model="llama-3-8b", messages=MESSAGES, stream=True, max_tokens=5
        )
        for each in stream:
            choice = each.choices[0]
            parts.append(choice.delta.content or "")
            reason = choice.finish_reason or reason
        assert ("".join(parts), reason) == (TEXT, "length")
        whole = stream.collect()
        assert whole.choices[0].message.content == TEXT
        assert whole.choices[0].finish_reason == "length"


def test_pareta_any_further_parameter_goes_verbatim() -> None:
    parameters: dict[str, Any] = {
        "temperature": 0.7,
        "max_tokens": 128,
        "top_p": 0.95,
        "stop": ["\n\n", "END"],
        "seed": 42,
        "frequency_penalty": 0.5,
    }
    base = {"model": "llama-3-8b", "messages": MESSAGES, **parameters}
    with serve_in_thread(pareta) as server, pareta_client(server) as client:
        client.chat.completions.create(**base)
        client.chat.completions.create(**base, stream=True).collect()
        assert [request.json for request in server.requests] == [
            {**base, "stream": False},
            {**base, "stream": True},
        ]


@pytest.mark.parametrize(("model", "messages"), [("", MESSAGES), ("llama-3-8b", [])])
def test_pareta_empty_arguments_are_refused_with_no_request(
    model: str, messages: list[Any]
) -> None:
    with serve_in_thread(pareta) as server, pareta_client(server) as client:
        for stream in (True, False):
            with pytest.raises(ValueError, match="empty"):
                client.chat.completions.create(model=model, messages=messages, stream=stream)
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
def test_pareta_errors_come_when_the_stream_starts(
    model: str, kind: type[penstock.APIStatusError], status: int
) -> None:
    with serve_in_thread(pareta) as server, pareta_client(server, max_retries=0) as client:
        seen: list[Any] = []
        with pytest.raises(penstock.PenstockError) as caught:
            seen.extend(client.chat.completions.create(model=model, messages=MESSAGES, stream=True))
        assert seen == []
        assert type(caught.value) is kind
        assert caught.value.status_code == status
        with pytest.raises(kind), client.chat.completions.stream(model=model, messages=MESSAGES):
            raise AssertionError("never entered")
        with pytest.raises(kind):
            client.chat.completions.create(model=model, messages=MESSAGES)
        assert len(server.requests) == 3


def test_pareta_a_wrong_key() -> None:
    with serve_in_thread(pareta) as server, Client(server.base_url, api_key="wrong-000") as client:
        with pytest.raises(penstock.AuthenticationError) as caught:
            client.models.list()
        stream = client.chat.completions.stream(model="m", messages=MESSAGES)
        with pytest.raises(penstock.AuthenticationError):
            next(stream)
    assert isinstance(caught.value, penstock.PenstockError)
    assert "wrong-000" not in repr(caught.value)


def test_pareta_branching_on_the_error() -> None:
    said: list[str] = []
    with serve_in_thread(pareta) as server, pareta_client(server, max_retries=0) as client:
        for model in ("unpaid", "stopped", "unknown"):
            try:
                client.chat.completions.create(model=model, messages=MESSAGES)
            except penstock.InsufficientCreditsError:
                said.append("top up")
            except penstock.EndpointNotReadyError:
                answer = client.request("POST", "/endpoints/ep-1/start")
                assert answer.status_code == 202
                said.append(answer.json()["status"])
            except penstock.PenstockError as error:
                said.append(type(error).__name__)
    assert said == ["top up", "starting", "NotFoundError"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("failure", ["429", "500", "503", "reset"])
def test_pareta_transient_failures_are_retried(failure: str, stream: bool) -> None:
    at_once = {"retry-after-ms": "1"}
    fails = Reply((Reset(),)) if failure == "reset" else error_reply(int(failure), headers=at_once)
    good = sse_reply(texts(*WORDS)) if stream else json_reply(COMPLETION)
    with serve_in_thread([fails, good]) as server, pareta_client(server) as client:
        answer = client.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
        if isinstance(answer, Stream):
            answer = answer.collect()
        assert answer.choices[0].message.content == TEXT
        assert len(server.requests) == 2


def test_pareta_two_retries_and_then_the_error() -> None:
    busy = error_reply(429, headers={"retry-after-ms": "1"})
    with serve_in_thread(busy) as server, pareta_client(server) as client:
        with pytest.raises(penstock.RateLimitError):
            client.chat.completions.create(model="m", messages=MESSAGES)
        assert len(server.requests) == 3
        with pytest.raises(penstock.RateLimitError):
            client.chat.completions.create(model="m", messages=MESSAGES, max_retries=0)
        assert len(server.requests) == 4


def test_pareta_nobody_is_there() -> None:
    with (
        Client(f"http://127.0.0.1:{closed_port()}/v1", api_key=KEY, max_retries=0) as client,
        pytest.raises(penstock.APIConnectionError),
    ):
        client.chat.completions.create(model="m", messages=MESSAGES)


@pytest.mark.parametrize("fault", [Reset(), End()])
def test_pareta_a_drop_in_mid_stream_is_an_error_and_no_resume(fault: Any) -> None:
    cut = sse_reply([*texts("Old", " river")[:3], Pause(0.01), fault], done=False)
    with serve_in_thread(cut) as server, pareta_client(server) as client:
        stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        seen: list[str] = []
        with pytest.raises(penstock.APIConnectionError) as caught:
            seen.extend(stream.text)
        assert "".join(seen) == "Old river"
        assert caught.value.partial is not None
        assert caught.value.partial.choices[0].message.content == "Old river"
        assert len(server.requests) == 1


def test_pareta_a_silent_server_is_a_timeout() -> None:
    silent = sse_reply([*texts("Old")[:2], Stall()], done=False)
    timeouts = Timeouts(read=0.03)
    with serve_in_thread(silent) as server, pareta_client(server, timeouts=timeouts) as client:
        with pytest.raises(TimeoutError) as caught:
            client.complete({"model": "m", "messages": MESSAGES})
        assert isinstance(caught.value, penstock.ReadTimeout)
        assert caught.value.partial is not None
        assert becomes_true(lambda: server.open_connections == 0)
        assert len(server.requests) == 1


def test_pareta_the_list_of_models() -> None:
    with serve_in_thread(pareta) as server, pareta_client(server) as client:
        models = client.models.list()
        assert len(models) == 2
        assert [(model.id, model.owned_by, model.created) for model in models] == [
            ("llama-3-8b", "pareta", 1700000000),
            ("mistral-7b", "pareta", 1700000001),
        ]
        for model in models:
            client.chat.completions.create(model=model.id, messages=MESSAGES)


def test_pareta_the_control_plane() -> None:
    with serve_in_thread(pareta) as server, pareta_client(server) as client:
        answer = client.request("POST", "/endpoints/ep-1/start")
        assert (answer.status_code, answer.json()) == (202, {"id": "ep-1", "status": "starting"})


def test_pareta_in_the_plain_openai_shape() -> None:
    with serve_in_thread(pareta) as server:
        assert server.base_url.endswith("/v1")
        with Client(server.base_url, api_key=KEY) as client:
            answer = client.complete({"model": "llama-3-8b", "messages": MESSAGES})
            assert answer.choices[0].message.content == TEXT


# --- Oru-el ---


def oruel_client(server: Server) -> Client:
    base_url = server.base_url.replace("/v1", "/v1/inference")
    return Client(base_url, api_key=KEY, provider=penstock.providers.ORUEL)


def test_oruel_packets_may_end_anywhere() -> None:
    answer = every_byte(oruel(*texts(*WORDS)))
    with serve_in_thread(answer) as server, oruel_client(server) as client:
        completion = client.complete({"model": "oru-1", "messages": MESSAGES})
        assert completion.choices[0].message.content == TEXT
        assert completion.choices[0].message.role == "assistant"
        (request,) = server.requests
        assert request.target == "/v1/inference/chat/completions"
        assert request.json == {"model": "oru-1", "messages": MESSAGES, "stream": True}


def test_oruel_usage_comes_last_without_asking() -> None:
    with serve_in_thread(oruel(*texts("a"))) as server, oruel_client(server) as client:
        with client.chat.completions.stream(model="oru-1", messages=MESSAGES) as stream:
            usages = [each.usage for each in stream]
        assert [usage is not None for usage in usages] == [False, False, True]
        assert stream.partial.usage is not None
        assert stream.partial.usage.total_tokens == 17


def test_oruel_the_end_is_done_or_a_finish_reason() -> None:
    both = [oruel(*texts("a")), oruel(*texts("a"), done=False)]
    with serve_in_thread(both) as server, oruel_client(server) as client:
        for _ in both:
            answer = client.complete({"model": "oru-1", "messages": MESSAGES})
            assert answer.choices[0].finish_reason == "stop"
    neither = sse_reply(texts("a")[:-1], done=False)
    with (
        serve_in_thread(neither) as server,
        oruel_client(server) as client,
        pytest.raises(penstock.IncompleteStreamError),
    ):
        client.complete({"model": "oru-1", "messages": MESSAGES})


def test_oruel_a_tool_call_over_several_chunks() -> None:
    answer = oruel(
        chunk([delta({"role": "assistant", "content": None})]),
        *call_pieces("get_weather", ['{"ci', 'ty": "Os', 'lo"}']),
        chunk([delta({}, "tool_calls")]),
    )
    with serve_in_thread(answer) as server, oruel_client(server) as client:
        with client.chat.completions.stream(model="oru-1", messages=MESSAGES) as stream:
            announced = list(stream.tool_calls)
        whole = client.complete({"model": "oru-1", "messages": MESSAGES})
    (call,) = whole.choices[0].message.tool_calls or []
    assert announced == [call]
    assert (call.id, call.type, call.function.name) == ("call_0", "function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    assert whole.choices[0].finish_reason == "tool_calls"


def test_oruel_after_a_disconnect_a_new_request_starts_anew() -> None:
    cut = sse_reply([*texts("Old", " river")[:3], Reset()], done=False)
    script = [cut, oruel(*texts("New"))]
    with serve_in_thread(script) as server, oruel_client(server) as client:
        request = {"model": "oru-1", "messages": MESSAGES}
        with pytest.raises(penstock.StreamInterruptedError):
            client.complete(request)
        assert len(server.requests) == 1
        assert client.complete(request).choices[0].message.content == "New"
        assert server.requests[0].body == server.requests[1].body


# --- the OpenAI shape ---


def openai_client(server: Server) -> Client:
    return Client(server.base_url, api_key=KEY)


def test_openai_every_field_of_a_chunk() -> None:
    token = {"token": "Hi", "logprob": -0.25, "bytes": [72, 105]}
    top = [{"token": "Hey", "logprob": -1.5, "bytes": [72, 101, 121]}]
    logprobs = {"content": [{**token, "top_logprobs": top}], "refusal": None}
    events = [
        openai_chunk([delta({"role": "assistant", "content": "", "refusal": None})]),
        openai_chunk([{**delta({"content": "Hi"}), "logprobs": logprobs}]),
        openai_chunk([delta({}, "stop")]),
        openai_chunk([], usage=OPENAI_USAGE),
    ]
    with serve_in_thread(sse_reply(events)) as server, openai_client(server) as client:
        with client.chat.completions.stream(
            model="gpt", messages=MESSAGES, stream_options={"include_usage": True}, logprobs=True
        ) as stream:
            chunks = list(stream)
        assert server.requests[0].json["stream_options"] == {"include_usage": True}
    whole = stream.partial
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


def test_openai_several_choices() -> None:
    events = [
        *(openai_chunk([delta({"role": "assistant", "content": ""}, index=n)]) for n in range(3)),
        *(openai_chunk([delta({"content": f"{n}{k}"}, index=n)]) for k in "ab" for n in range(3)),
        openai_chunk([delta({}, "length", 1)]),
        openai_chunk([delta({}, "stop", 0)]),
        openai_chunk([delta({}, "content_filter", 2)]),
    ]
    with serve_in_thread(sse_reply(events)) as server, openai_client(server) as client:
        whole = client.complete({"model": "gpt", "messages": MESSAGES, "n": 3})
    assert [
        (choice.index, choice.message.content, choice.finish_reason) for choice in whole.choices
    ] == [(0, "0a0b", "stop"), (1, "1a1b", "length"), (2, "2a2b", "content_filter")]


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter"])
def test_openai_finish_reasons(reason: str) -> None:
    with (
        serve_in_thread(sse_reply(texts("a", finish=reason))) as server,
        openai_client(server) as client,
        client.chat.completions.stream(model="gpt", messages=MESSAGES) as stream,
    ):
        assert [each.choices[0].finish_reason for each in stream] == [None, None, reason]


def test_openai_function_calls_in_pieces() -> None:
    events = [
        openai_chunk([delta({"role": "assistant", "content": None})]),
        *call_pieces("get_weather", ['{"city":', ' "Oslo"}']),
        *call_pieces("get_time", ['{"zone": "CET"', "}"], index=1),
        openai_chunk([delta({}, "tool_calls")]),
    ]
    arguments: dict[int, str] = {}
    names: dict[int, str] = {}
    with (
        serve_in_thread(sse_reply(events)) as server,
        openai_client(server) as client,
        client.chat.completions.stream(model="gpt", messages=MESSAGES) as stream,
    ):
        for each in stream:
            for call in each.choices[0].delta.tool_calls or []:
                index, function = call.index, call.function
                assert index is not None
                assert function is not None
                names[index] = names.get(index, "") + (function.name or "")
                arguments[index] = arguments.get(index, "") + (function.arguments or "")
    calls = stream.partial.choices[0].message.tool_calls or []
    assert names == {0: "get_weather", 1: "get_time"}
    assert [json.loads(text) for text in arguments.values()] == [{"city": "Oslo"}, {"zone": "CET"}]
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        (f"call_{n}", names[n], arguments[n]) for n in range(2)
    ]


def test_openai_accumulation_into_a_whole_message() -> None:
    with serve_in_thread(sse_reply(texts(*WORDS))) as server, openai_client(server) as client:
        with client.chat.completions.stream(model="gpt", messages=MESSAGES) as stream:
            for _ in stream:
                break
            assert stream.partial.choices[0].message.content in (None, "")
            whole = stream.collect()
        message = whole.choices[0].message
        assert (message.role, message.content) == ("assistant", TEXT)
        client.complete({"model": "gpt", "messages": [*MESSAGES, message, *MESSAGES]})
        assert server.requests[1].json["messages"][1] == {"role": "assistant", "content": TEXT}


@pytest.mark.parametrize("place", ["before", "in the middle"])
def test_openai_errors_inside_a_try_block_around_the_loop(place: str) -> None:
    if place == "before":
        script = error_reply(400, "bad request", code="context_length_exceeded")
    else:
        script = sse_reply([*texts("a")[:2], {"error": {"message": "overloaded", "code": 503}}])
    caught: penstock.PenstockError | None = None
    with serve_in_thread(script) as server, openai_client(server) as client:
        try:
            for _ in client.chat.completions.create(model="gpt", messages=MESSAGES, stream=True):
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


def tensoras_client(server: Server) -> Client:
    return Client(server.base_url, api_key=KEY, provider=penstock.providers.TENSORAS)


def test_tensoras_usage_with_the_finish_reason() -> None:
    with serve_in_thread(tensoras(*texts(*WORDS))) as server, tensoras_client(server) as client:
        with client.chat.completions.stream(
            model="t", messages=MESSAGES, stream_options={"include_usage": True}
        ) as stream:
            *_, last = stream
        assert last.choices[0].finish_reason == "stop"
        assert last.choices[0].delta.content is None
        assert last.usage is not None
        assert last.usage.total_tokens == 12
        assert stream.partial.usage == last.usage
        assert server.requests[0].json["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_tensoras_reasoning_models_stream(field: str) -> None:
    answer = tensoras(
        chunk([delta({"role": "assistant"})]),
        chunk([delta({field: "Let me "})]),
        chunk([delta({field: "think."})]),
        chunk([delta({"content": "42"})]),
        chunk([delta({}, "stop")]),
    )
    with serve_in_thread(answer) as server, tensoras_client(server) as client:
        whole = client.complete({"model": "t-reason", "messages": MESSAGES})
    message = whole.choices[0].message
    assert (message.reasoning, message.content) == ("Let me think.", "42")


def test_tensoras_tool_calls_stream() -> None:
    answer = tensoras(
        chunk([delta({"role": "assistant"})]),
        *call_pieces("search", ['{"q": ', '"rivers"}']),
        chunk([delta({}, "tool_calls")]),
    )
    tools = [{"type": "function", "function": {"name": "search", "parameters": {}}}]
    with serve_in_thread(answer) as server, tensoras_client(server) as client:
        whole = client.complete({"model": "t", "messages": MESSAGES, "tools": tools})
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
def test_tensoras_json_modes_while_streaming(mode: dict[str, Any]) -> None:
    pieces = ['{"na', 'me": "El', 'be", "km": 1094', "}"]
    answer = tensoras(*texts(*pieces))
    with serve_in_thread(answer) as server, tensoras_client(server) as client:
        stream = client.chat.completions.create(
            model="t", messages=MESSAGES, response_format=mode, stream=True
        )
        assert "".join(stream.text) == "".join(pieces)
        assert server.requests[0].json["response_format"] == mode
    assert json.loads(stream.partial.choices[0].message.content or "") == {
        "name": "Elbe",
        "km": 1094,
    }


# --- all of them ---


@pytest.mark.parametrize("provider", ["openai", "pareta", "oruel", "tensoras"])
def test_leaving_a_stream_stops_the_server(provider: str) -> None:
    endless = sse_reply([*texts("a")[:2], Stall()], done=False)
    with serve_in_thread(endless) as server:
        with Client.from_env(provider, base_url=server.base_url, api_key=KEY) as client:
            with client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
                for _ in stream:
                    break
            assert becomes_true(lambda: server.open_connections == 0, seconds=2)
        assert server.connections[0].ended == "client closed"
