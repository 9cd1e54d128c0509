"""The same checks for each framework, on chat completions over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel

import penstock
from penstock.testing import (
    Connection,
    End,
    Reply,
    Reset,
    Server,
    Stall,
    by_stream,
    completion,
    cut_after_events,
    error_event,
    error_reply,
    json_reply,
    sse_reply,
    text_reply,
    tokens,
    tool_calls_reply,
)
from tests.frameworks.clients import STOCK
from tests.frameworks.conftest import Serve
from tests.frameworks.drivers import Driver

PROMPT = "Why is the sky blue?"
PIECES = ("The air ", "scatters ", "blue.")
TEXT = "".join(PIECES)
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
STREAMED = text_reply(*PIECES, usage=USAGE)
WHOLE = text_reply(*PIECES, usage=USAGE, stream=False)
SOON = 1.0
"""Seconds in which a server has to see that the client has left."""


class City(BaseModel):
    """A city."""

    name: str
    people: int


@dataclass
class Tool:
    """A tool that remembers its calls."""

    cities: list[str] = field(default_factory=list)

    @property
    def function(self) -> Callable[[str], str]:
        def get_weather(city: str) -> str:
            """Return the weather of a city.

            Args:
                city: The name of the city.
            """
            self.cities.append(city)
            return f"rain in {city}"

        return get_weather


def run(framework: type[Driver], server: Server, use: Any, **options: Any) -> Any:
    """Run `use(driver)` in an event loop of its own, and close the client."""

    async def main() -> Any:
        driver = framework(server.base_url, **options)
        try:
            return await use(driver)
        finally:
            await driver.aclose()

    return asyncio.run(main())


def causes(error: BaseException) -> list[BaseException]:
    """The error and what it was made of, also inside of groups."""
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and each not in found:
            found.append(each)
            left += [each.__cause__, each.__context__]
            left += getattr(each, "exceptions", ())
    return found


def statuses(error: BaseException) -> set[int]:
    """The statuses that an error, or what it was made of, has."""
    return {
        status
        for each in causes(error)
        if isinstance(status := getattr(each, "status_code", None), int)
    }


async def closed_soon(connection: Connection) -> float:
    """Seconds until the server sees that the connection is closed; infinite if it is not."""
    began = time.monotonic()
    while connection.ended is None:
        if time.monotonic() - began > SOON:
            return float("inf")
        await asyncio.sleep(0.005)
    return time.monotonic() - began


def test_a_whole_answer(framework: type[Driver], serve: Serve) -> None:
    server = serve(WHOLE)
    answer = run(framework, server, lambda driver: driver.ask(PROMPT))
    assert answer.text == TEXT
    (request,) = server.requests
    assert PROMPT in str(request.json["messages"])


def test_a_streamed_answer(framework: type[Driver], serve: Serve) -> None:
    server = serve(STREAMED)
    heard: list[str] = []
    answer = run(framework, server, lambda driver: driver.read(PROMPT, heard))
    assert answer.text == "".join(heard) == TEXT
    assert len(heard) == len(PIECES)
    (request,) = server.requests
    assert request.json["stream"] is True


@pytest.mark.needs("usage")
def test_usage(framework: type[Driver], serve: Serve) -> None:
    server = serve(by_stream(STREAMED, WHOLE))
    whole = run(framework, server, lambda driver: driver.ask(PROMPT))
    streamed = run(framework, server, lambda driver: driver.read(PROMPT, []))
    assert whole.usage == streamed.usage == (7, 3)


def final_answer(framework: type[Driver], stream: bool) -> Reply:
    """With what an agent of the framework ends."""
    if framework.final_tool is not None:
        return tool_calls_reply((framework.final_tool, {"answer": "It rains."}), stream=stream)
    return text_reply("It ", "rains.", stream=stream)


@pytest.mark.needs("tools")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_tool_and_back(framework: type[Driver], serve: Serve, stream: bool) -> None:
    tool = Tool()
    call = tool_calls_reply(("call_7", "get_weather", {"city": "Oslo"}), stream=stream)
    server = serve([call, final_answer(framework, stream)])

    def use(driver: Driver) -> Any:
        return driver.read(PROMPT, []) if stream else driver.ask(PROMPT)

    answer = run(framework, server, use, tool=tool.function)
    assert tool.cities == ["Oslo"]
    assert answer.text.endswith("It rains.")
    first, second = server.requests
    assert first.json["tools"][0]["function"]["name"] == "get_weather"
    assert "rain in Oslo" in str(second.json["messages"][-1])
    assert {bool(request.json.get("stream")) for request in server.requests} == {stream}


@pytest.mark.needs("parse")
def test_structured_output(framework: type[Driver], serve: Serve) -> None:
    values = '{"name": "Oslo", "people": 700000}'

    def answer(request: Any) -> Reply:
        choice = request.json.get("tool_choice")
        if request.json.get("tools") and choice not in (None, "none"):
            name = request.json["tools"][-1]["function"]["name"]
            return tool_calls_reply((name, values), stream=bool(request.json.get("stream")))
        return text_reply(values, stream=bool(request.json.get("stream")))

    server = serve(answer)
    city = run(framework, server, lambda driver: driver.parse("Which city?", City))
    assert isinstance(city, City)
    assert city.model_dump() == {"name": "Oslo", "people": 700000}
    (request,) = server.requests
    assert "people" in str(request.json.get("tools") or request.json.get("response_format"))


@pytest.mark.needs("leave")
def test_leaving_a_stream_closes_its_connection(framework: type[Driver], serve: Serve) -> None:
    server = serve(cut_after_events(text_reply(*PIECES), 3, Stall()))

    async def use(driver: Driver) -> float:
        heard: list[str] = []
        await driver.read(PROMPT, heard, stop_after=1)
        assert len(heard) == 1
        return await closed_soon(server.connections[0])

    assert run(framework, server, use) < SOON


@pytest.mark.needs("cancel")
@pytest.mark.parametrize("events", [0, 3], ids=["before the answer", "in the answer"])
def test_a_cancellation_closes_the_connection(
    framework: type[Driver], serve: Serve, events: int
) -> None:
    server = serve(cut_after_events(text_reply(*PIECES), events, Stall()))

    async def use(driver: Driver) -> float:
        heard: list[str] = []
        task = asyncio.create_task(driver.read(PROMPT, heard))
        while not server.requests or len(heard) < max(0, events - 1):
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        driver.kept.append(task)
        return await closed_soon(server.connections[0])

    assert run(framework, server, use) < SOON
    assert len(server.requests) == 1


@pytest.mark.needs("cancel")
def test_a_cancelled_whole_answer(framework: type[Driver], serve: Serve) -> None:
    server = serve(Reply((Stall(),)))

    async def use(driver: Driver) -> float:
        task = asyncio.create_task(driver.ask(PROMPT))
        while not server.requests:
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return await closed_soon(server.connections[0])

    assert run(framework, server, use) < SOON


CUTS = {
    "a polite end": sse_reply(tokens(*PIECES[:2], finish=None), done=False),
    "the end of a body without framing": sse_reply(
        tokens(*PIECES[:2], finish=None), done=False, chunked="close"
    ),
    "an end of file": cut_after_events(text_reply(*PIECES), 3, End()),
    "a reset": cut_after_events(text_reply(*PIECES), 3, Reset()),
    "an error inside": sse_reply([*tokens(*PIECES[:2], finish=None), error_event("overloaded")]),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_a_cut_stream_is_an_error(framework: type[Driver], serve: Serve, cut: Reply) -> None:
    server = serve(cut)
    heard: list[str] = []

    async def use(driver: Driver) -> BaseException:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - each has its own
            await driver.read(PROMPT, heard)
        return caught.value

    error = run(framework, server, use)
    # What has begun is never sent again.
    assert len(server.requests) == 1
    if not STOCK and not framework.own_client:
        (whole,) = [each for each in causes(error) if isinstance(each, penstock.PenstockError)]
        partial = getattr(whole, "partial", None)
        assert partial is not None
        assert partial.text == "".join(PIECES[:2])
    assert "".join(heard) in ("", "".join(PIECES[:2]))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_429_is_sent_again_once(framework: type[Driver], serve: Serve, stream: bool) -> None:
    busy = error_reply(429, headers={"retry-after-ms": "5"})
    server = serve([busy, STREAMED if stream else WHOLE])

    def use(driver: Driver) -> Any:
        return driver.read(PROMPT, []) if stream else driver.ask(PROMPT)

    assert run(framework, server, use).text == TEXT
    assert len(server.requests) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_retries_are_one_layer(framework: type[Driver], serve: Serve, stream: bool) -> None:
    server = serve(error_reply(429, headers={"retry-after-ms": "1"}))

    async def use(driver: Driver) -> BaseException:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await (driver.read(PROMPT, []) if stream else driver.ask(PROMPT))
        return caught.value

    assert 429 in statuses(run(framework, server, use))
    assert len(server.requests) == 3  # max_retries is 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_wrong_key(framework: type[Driver], serve: Serve, stream: bool) -> None:
    server = serve(error_reply(401, "Incorrect API key", code="invalid_api_key"))

    async def use(driver: Driver) -> BaseException:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await (driver.read(PROMPT, []) if stream else driver.ask(PROMPT))
        return caught.value

    error = run(framework, server, use)
    assert 401 in statuses(error)
    assert any("Incorrect API key" in str(each) for each in causes(error))
    assert len(server.requests) == 1


def test_one_client_in_two_event_loops(framework: type[Driver], serve: Serve) -> None:
    server = serve(by_stream(STREAMED, WHOLE))
    driver = framework(server.base_url)

    async def use() -> None:
        assert (await driver.read(PROMPT, [])).text == TEXT  # type: ignore[union-attr]
        assert (await driver.ask(PROMPT)).text == TEXT

    asyncio.run(use())
    asyncio.run(use())
    asyncio.run(driver.aclose())
    assert len(server.requests) == 4


def vendor_answer(stream: bool) -> Reply:
    """A call of the tool, with what Gemini and DeepSeek add to it."""
    call = {
        "id": "call_7",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
        "extra_content": {"google": {"thought_signature": "c2ln"}},
    }
    if not stream:
        whole = completion("", finish="tool_calls", usage=USAGE)
        whole["choices"][0]["message"] |= {
            "content": None,
            "reasoning_content": "Hm, the weather.",
            "tool_calls": [call],
        }
        return json_reply(whole)
    first, last = tokens(finish="tool_calls")
    deltas = [
        {"reasoning_content": "Hm, "},
        {"reasoning_content": "the weather."},
        {"tool_calls": [{"index": 0, **call}]},
    ]
    chunks = [
        {**first, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    return sse_reply([first, *chunks, last])


@pytest.mark.needs("tools")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_members_of_vendors_through_a_tool_and_back(
    framework: type[Driver], serve: Serve, stream: bool
) -> None:
    tool = Tool()
    server = serve([vendor_answer(stream), final_answer(framework, stream)])

    def use(driver: Driver) -> Any:
        return driver.read(PROMPT, []) if stream else driver.ask(PROMPT)

    run(framework, server, use, tool=tool.function)
    assert tool.cities == ["Oslo"]
    back = str(server.requests[1].json["messages"])
    given = {"reasoning_content": "Hm, the weather.", "extra_content": "thought_signature"}
    assert {name for name, value in given.items() if value in back} == framework.gives_back


def test_thirty_answers_at_once(framework: type[Driver], serve: Serve) -> None:
    server = serve(STREAMED)

    async def use(driver: Driver) -> list[str]:
        async def one() -> str:
            heard: list[str] = []
            await driver.read(PROMPT, heard)
            return "".join(heard)

        return list(await asyncio.gather(*(one() for _ in range(30))))

    assert run(framework, server, use) == [TEXT] * 30
