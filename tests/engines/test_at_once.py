"""Rows of a batch are asked some at a time, and answered in their order."""

from __future__ import annotations

import anyio
import pytest

from penstock import AuthenticationError
from penstock.engines.at_once import answers_to
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply
from penstock.testing.script import Pause, RecordedRequest, Reply

from .support import checked, echo, on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


def text_of(request: RecordedRequest) -> str:
    text: str = request.json["messages"][0]["content"]
    return text


def later_first(request: RecordedRequest) -> Reply:
    number = int(text_of(request))
    return Reply((Pause(10 - number % 10), *json_reply(completion(str(number))).steps))


@pytest.mark.parametrize("at_once", [1, 3, 64])
async def test_answers_come_in_the_order_of_rows(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    ask, _ = on(monkeypatch, later_first)
    answers = await answers_to(ask, [str(n) for n in range(30)], at_once=at_once)
    assert [checked(answer)["text"] for answer in answers] == [str(n) for n in range(30)]


@pytest.mark.parametrize("at_once", [0, 64])
async def test_no_rows(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    ask, _ = on(monkeypatch, echo)
    assert await answers_to(ask, [], at_once=at_once) == []


async def test_rows_in_hand_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    ask, network = on(monkeypatch, later_first)
    taken = 0

    def rows() -> object:
        nonlocal taken
        for number in range(20):
            taken += 1
            assert taken - len(network.requests) <= 4
            yield str(number)

    assert len(await answers_to(ask, rows(), at_once=4)) == 20  # type: ignore[arg-type]


async def test_a_refusal_is_raised_when_the_rows_in_hand_have_their_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: list[str] = []

    def script(request: RecordedRequest) -> Reply:
        text = text_of(request)
        if text == "1":
            return Reply((Pause(1), *error_reply(401, "no such key").steps))
        served.append(text)
        return Reply((Pause(5), *json_reply(completion(text)).steps))

    ask, network = on(monkeypatch, script)
    start = anyio.current_time()
    with pytest.raises(AuthenticationError):
        await answers_to(ask, [str(n) for n in range(50)], at_once=4)
    assert anyio.current_time() - start == pytest.approx(5)
    assert served == ["0", "2", "3"] or sorted(served) == ["0", "2", "3"]
    assert len(network.requests) == 4
    assert not network.in_flight
