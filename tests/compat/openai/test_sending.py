"""Whole chat completions and retries through the SDK's own methods."""

from __future__ import annotations

from typing import Any

import anyio
import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletion

import penstock
from penstock.testing.answers import tool_calls_reply
from penstock.testing.cuts import cut_at
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import End, Reset, Stall
from tests.support.openai_clients import REQUEST, STREAMED, async_client, drain, text_of

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

WHOLE = json_reply(completion("Hello"), headers={"x-request-id": "req_1"})
HELLO = sse_reply(tokens("Hel", "lo"))
BUSY = error_reply(429, "slow down", headers={"retry-after": "2"})


async def test_a_whole_answer() -> None:
    async with async_client(WHOLE) as client:
        answer = await client.chat.completions.create(**REQUEST)
        assert type(answer) is ChatCompletion
        assert answer.choices[0].message.content == "Hello"
        assert answer._request_id == "req_1"


async def test_the_request_is_the_sdks() -> None:
    network = MemoryNetwork(WHOLE)
    async with async_client(network, organization="org", default_headers={"x-mine": "1"}) as client:
        await client.chat.completions.create(
            **REQUEST, temperature=0.5, extra_body={"top_k": 1}, extra_query={"a": "b"}
        )
    sent = network.requests[0]
    assert sent.target == "/v1/chat/completions?a=b"
    assert sent.json["temperature"] == 0.5
    assert sent.json["top_k"] == 1
    headers = sent.headers
    assert headers["authorization"] == "Bearer sk-secret-0123456789"
    assert headers["openai-organization"] == "org"
    assert headers["x-mine"] == "1"
    assert headers["user-agent"].startswith("AsyncOpenAI/Python")


# --- retries ---


@pytest.mark.parametrize("request_of", [REQUEST, STREAMED], ids=["whole", "streamed"])
async def test_a_429_and_then_an_answer_are_two_requests(request_of: Any) -> None:
    network = MemoryNetwork([BUSY, HELLO if request_of is STREAMED else WHOLE])
    async with async_client(network) as client:
        start = anyio.current_time()
        answer: Any = await client.chat.completions.create(**request_of)
        assert anyio.current_time() - start == pytest.approx(2)
        if request_of is STREAMED:
            assert text_of(await drain(answer)) == "Hello"
    assert len(network.requests) == 2


@pytest.mark.parametrize("request_of", [REQUEST, STREAMED], ids=["whole", "streamed"])
async def test_retries_are_one_layer(request_of: Any) -> None:
    network = MemoryNetwork(lambda request: error_reply(500, "down"))
    async with async_client(network, max_retries=3) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(**request_of)
        assert len(network.requests) == 4
        with pytest.raises(openai.InternalServerError):
            await client.with_options(max_retries=0).chat.completions.create(**request_of)
        assert len(network.requests) == 5
        with pytest.raises(openai.InternalServerError):
            await client.with_options(max_retries=1).chat.completions.create(**request_of)
        assert len(network.requests) == 7


async def test_refused_connections_are_retried_and_then_an_error() -> None:
    network = MemoryNetwork([HELLO], refuse=2)
    async with async_client(network) as client:
        stream = await client.chat.completions.create(**STREAMED)
        assert text_of(await drain(stream)) == "Hello"
        assert len(network.connects) == 3
    network = MemoryNetwork([], refuse=10)
    async with async_client(network, max_retries=1) as client:
        with pytest.raises(openai.APIConnectionError) as caught:
            await client.chat.completions.create(**STREAMED)
        assert isinstance(caught.value.__cause__, penstock.APIConnectionError)
        assert len(network.connects) == 2


async def test_quota_is_not_retried() -> None:
    network = MemoryNetwork([error_reply(429, "no money", code="insufficient_quota")])
    async with async_client(network) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**STREAMED)
        assert caught.value.code == "insufficient_quota"


async def test_nothing_is_sent_again_after_the_first_byte() -> None:
    size = len(WHOLE.data)
    network = MemoryNetwork([cut_at(WHOLE, size - 5, Reset()), cut_at(HELLO, 300, Reset())])
    async with async_client(network) as client:
        with pytest.raises(openai.APIConnectionError) as caught:
            await client.chat.completions.create(**REQUEST)
        assert isinstance(caught.value.__cause__, penstock.StreamInterruptedError)
        with pytest.raises(openai.APIConnectionError) as caught:
            await drain(await client.chat.completions.create(**STREAMED))
        assert isinstance(caught.value.__cause__, penstock.StreamInterruptedError)
    assert len(network.requests) == 2


async def test_raw_responses_count_the_retries() -> None:
    network = MemoryNetwork([BUSY, BUSY, WHOLE, HELLO, BUSY, WHOLE, BUSY, BUSY])
    async with async_client(network) as client:
        raw = await client.chat.completions.with_raw_response.create(**REQUEST)
        assert raw.retries_taken == 2
        assert raw.http_request.headers["x-stainless-retry-count"] == "2"
        assert raw.parse().choices[0].message.content == "Hello"
        assert raw.headers["x-request-id"] == "req_1"
        raw = await client.chat.completions.with_raw_response.create(**STREAMED)
        assert raw.retries_taken == 0
        assert text_of(await drain(raw.parse())) == "Hello"
        own = {"x-stainless-retry-count": "42"}
        raw = await client.chat.completions.with_raw_response.create(**REQUEST, extra_headers=own)
        assert raw.retries_taken == 1
        assert raw.http_request.headers["x-stainless-retry-count"] == "42"
        with pytest.raises(openai.RateLimitError) as caught:
            await client.with_options(max_retries=1).chat.completions.create(**REQUEST)
        assert caught.value.request.headers["x-stainless-retry-count"] == "1"
    sent = [request.headers["x-stainless-retry-count"] for request in network.requests]
    assert sent == ["0", "1", "2", "0", "42", "42", "0", "1"]


async def test_streaming_responses() -> None:
    network = MemoryNetwork([WHOLE, HELLO, HELLO, HELLO])
    async with async_client(network) as client:
        create = client.chat.completions.with_streaming_response.create
        async with create(**REQUEST) as response:
            assert (await response.parse()).choices[0].message.content == "Hello"
        async with create(**STREAMED) as response:
            assert text_of(await drain(await response.parse())) == "Hello"
        async with create(**STREAMED) as response:
            lines = [line async for line in response.iter_lines() if line]
            assert lines[-1] == "data: [DONE]"
            assert all(line.startswith("data: ") for line in lines)
        async with create(**STREAMED) as response:
            assert network.connections[0].open
    assert not network.connections[0].in_flight


# --- refusals ---


@pytest.mark.parametrize("request_of", [REQUEST, STREAMED], ids=["whole", "streamed"])
async def test_a_refusal_is_the_sdks_own_error(request_of: Any) -> None:
    network = MemoryNetwork(error_reply(401, "who are you", code="invalid_api_key"))
    async with async_client(network) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(**request_of)
        error: Any = caught.value
        assert error.status_code == 401
        assert error.code == "invalid_api_key"
        assert error.body["message"] == "who are you"
        assert "who are you" in str(error)
        assert error.response.json()["error"]["code"] == "invalid_api_key"
    assert len(network.requests) == 1


# --- structured output, tools, vendor members ---


class Answer(pydantic.BaseModel):
    city: str
    heat: int


async def test_structured_output() -> None:
    network = MemoryNetwork([json_reply(completion('{"city": "Rome", "heat": 30}'))] * 2)
    async with async_client(network) as client:
        for parse in (client.chat.completions.parse, client.beta.chat.completions.parse):
            answer = await parse(**REQUEST, response_format=Answer)
            assert answer.choices[0].message.parsed == Answer(city="Rome", heat=30)


async def test_the_sdks_helper_for_streams() -> None:
    reply = sse_reply(tokens('{"city": "Rome",', ' "heat": 30}'))
    async with async_client([reply, sse_reply(tokens("a", finish=None), done=False)]) as client:
        async with client.chat.completions.stream(**REQUEST, response_format=Answer) as stream:
            kinds = [event.type async for event in stream]
            whole = await stream.get_final_completion()
        assert "content.delta" in kinds
        assert whole.choices[0].message.parsed == Answer(city="Rome", heat=30)
        with pytest.raises(openai.APIConnectionError):
            async with client.chat.completions.stream(**REQUEST) as stream:
                await stream.until_done()


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # the SDK's own
async def test_leaving_the_helper_closes_the_connection() -> None:
    network = MemoryNetwork(sse_reply([*tokens("a", finish=None), Stall()]))
    async with async_client(network) as client:
        async with client.chat.completions.stream(**REQUEST) as stream:
            async for _ in stream:
                break
        assert not network.connections[0].open


async def test_pieces_of_tool_calls() -> None:
    calls = [("get_weather", '{"city": "Rome"}'), ("get_time", "{}")]
    async with async_client(tool_calls_reply(*calls)) as client:
        stream = await client.chat.completions.create(**STREAMED)
        arguments: dict[int, str] = {}
        names: dict[int, str] = {}
        async for chunk in stream:
            for choice in chunk.choices:
                for call in choice.delta.tool_calls or ():
                    assert call.function is not None
                    names.setdefault(call.index, call.function.name or "")
                    said = arguments.get(call.index, "")
                    arguments[call.index] = said + (call.function.arguments or "")
    assert list(names.values()) == ["get_weather", "get_time"]
    assert list(arguments.values()) == ['{"city": "Rome"}', "{}"]


async def test_members_of_a_vendor_come_and_go_back() -> None:
    extra = {"google": {"thought_signature": "abc"}}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "reasoning_content": "hm"}
    answer = completion()
    answer["choices"][0]["message"] = {**message, "tool_calls": [{**call, "extra_content": extra}]}
    delta = {
        "reasoning_content": "hm",
        "tool_calls": [{"index": 0, **call, "extra_content": extra}],
    }
    chunk = {**tokens("a")[1], "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    network = MemoryNetwork(
        [json_reply(answer), WHOLE, sse_reply([chunk, *tokens(role_first=False)])]
    )
    async with async_client(network) as client:
        first = await client.chat.completions.create(**REQUEST)
        said: Any = first.choices[0].message
        assert said.model_extra == {"reasoning_content": "hm"}
        assert said.reasoning_content == "hm"
        assert said.tool_calls[0].model_extra == {"extra_content": extra}
        again: Any = [*REQUEST["messages"], said]
        await client.chat.completions.create(model="m", messages=again)
        sent = network.requests[1].json["messages"][-1]
        assert sent["reasoning_content"] == "hm"
        assert sent["tool_calls"][0]["extra_content"] == extra
        stream = await client.chat.completions.create(**STREAMED)
        first_delta: Any = (await anext(stream)).choices[0].delta
        assert first_delta.reasoning_content == "hm"
        assert first_delta.tool_calls[0].extra_content == extra
        await stream.close()


# --- everything else ---


async def test_other_endpoints_work_and_keep_the_sdks_retries() -> None:
    vectors = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
    models = {"object": "list", "data": [{"id": "m", "object": "model"}]}
    network = MemoryNetwork(
        [error_reply(500, "down"), json_reply(vectors), json_reply(models), json_reply({"id": "f"})]
    )
    async with async_client(network) as client:
        answer = await client.embeddings.create(model="m", input=["a"], encoding_format="float")
        assert answer.data[0].embedding == [0.5]
        assert [model.id async for model in client.models.list()] == ["m"]
        file = await client.files.create(file=("a.txt", b"abc"), purpose="assistants")
        assert file.id == "f"
    assert b"abc" in network.requests[-1].body


async def test_a_cut_answer_of_another_endpoint_is_not_sent_again() -> None:
    reply = json_reply({"object": "list", "data": []})
    network = MemoryNetwork([cut_at(reply, len(reply.data) - 3, End())])
    async with async_client(network) as client:
        with pytest.raises(openai.APIConnectionError):
            await client.embeddings.create(model="m", input="a", encoding_format="float")
    assert len(network.requests) == 1


RESPONSE = {"id": "r", "object": "response", "created_at": 0, "model": "m", "output": []}


def response_events(*kinds: str) -> list[Any]:
    return [
        f'event: {kind}\ndata: {{"type": "{kind}", "sequence_number": {number},'
        f' "delta": "a", "response": {{"id": "r", "output": []}}}}\n\n'.encode()
        for number, kind in enumerate(kinds)
    ]


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # the SDK's own
async def test_a_cut_stream_of_responses_is_an_error() -> None:
    whole = response_events("response.created", "response.output_text.delta", "response.completed")
    network = MemoryNetwork([sse_reply(whole, done=False), sse_reply(whole[:2], done=False)])
    async with async_client(network) as client:
        stream = await client.responses.create(model="m", input="a", stream=True)
        assert len([event async for event in stream]) == 3
        with pytest.raises(openai.APIConnectionError):
            await drain(await client.responses.create(model="m", input="a", stream=True))
    assert len(network.requests) == 2


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # the SDK's own
async def test_legacy_completions() -> None:
    piece = {"id": "c", "object": "text_completion", "created": 0, "model": "m"}
    pieces = [
        {**piece, "choices": [{"index": 0, "text": "a", "finish_reason": None}]},
        {**piece, "choices": [{"index": 0, "text": "b", "finish_reason": "stop"}]},
    ]
    network = MemoryNetwork([sse_reply(pieces), sse_reply(pieces[:1], done=False)])
    async with async_client(network) as client:
        stream = await client.completions.create(model="m", prompt="x", stream=True)
        assert "".join([item.choices[0].text async for item in stream]) == "ab"
        with pytest.raises(openai.APIConnectionError):
            await drain(await client.completions.create(model="m", prompt="x", stream=True))
