"""A few seconds of the soak, and that it finds what it looks for."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import ChatCompletion, ReadTimeout, StreamInterruptedError, types
from penstock._call.live_call import LiveCall
from penstock._call.stream import CompletionStream
from penstock._wire.completion import CompletionDecoder
from penstock.observing import Finished, RequestStarted

from .answers import text_of
from .faults import STREAMED, plan
from .interrupted import interrupting
from .ledger import ERRORS, Ledger
from .operations import WAYS, Operation
from .run import Settings, soak

NAME = "1-1-0"
GOOD: dict[str, Any] = {
    "kind": "good",
    "status": 200,
    "silent": False,
    "begun": True,
    "whole": True,
}
CUT: dict[str, Any] = {**GOOD, "kind": "reset", "whole": False}


def short(backend: str = "asyncio", **more: Any) -> Settings:
    settings = {"seed": 1, "operations": 16, "tasks": 16, "patience": 0.6}
    return Settings(**{**settings, "backend": backend, **more})


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_short_one(backend: str) -> None:
    settings = short(backend)
    run = soak(settings)
    assert run.violations == [], f"python -m tests.soak --backend {backend} --seed {settings.seed}"
    assert run.requests == sum(run.outcomes.values()) > run.operations == 32
    assert run.sent > 0
    assert run.descriptors[0] == run.descriptors[1]


def test_a_short_one_of_interruptions_and_forks() -> None:
    with interrupting(seed=1, times=12) as found:
        pass
    assert found.violations == []
    assert found.forks == 2
    assert found.signals > 2


# --- what it must find ---


def test_it_finds_a_slot_that_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = LiveCall._release
    kept: list[LiveCall] = []

    def forgetful(self: LiveCall) -> None:
        if self.exchange is not None and self.exchange.status >= 300 and len(kept) < 2:
            kept.append(self)
        if self not in kept:
            release(self)

    monkeypatch.setattr(LiveCall, "_release", forgetful)
    # On a machine under load, too, some answers have a status before they are given up.
    run = soak(short(operations=30, tasks=30, patience=3.0))
    assert any("slots were not given back" in violation for violation in run.violations)
    # Told as they come, and not at the end alone.
    told = capsys.readouterr().err
    assert all(told.count(f"{violation}\n") >= 1 for violation in run.violations)


def test_it_finds_an_answer_that_is_cut_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent_end(self: CompletionDecoder) -> list[object]:
        self.done = True
        return []

    monkeypatch.setattr(CompletionDecoder, "end", silent_end)
    run = soak(short(operations=100, tasks=60))
    assert any("counted as completed with" in violation for violation in run.violations)


def test_it_finds_what_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[CompletionStream] = []
    close = CompletionStream.__aexit__

    async def leave(self: CompletionStream, *exc_info: Any) -> None:
        if len(kept) < 3:
            kept.append(self)
            self._reader.report("abandoned", None)
        else:
            await close(self, *exc_info)

    monkeypatch.setattr(CompletionStream, "__aexit__", leave)
    monkeypatch.setattr("tests.soak.run.QUIET", 0.1)
    run = soak(short())
    assert any("streams are still reachable" in violation for violation in run.violations)
    for stream in kept:
        stream._reader.sender.abort()


# --- the ledger ---


def answer(text: str) -> ChatCompletion:
    return types.ChatCompletion(
        choices=[types.Choice(message=types.ChatCompletionMessage(content=text))]
    )


class Case:
    """One request of which all are told the same."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.entry = self.ledger.open(NAME, max_retries=1)
        self.ledger.request_started(
            RequestStarted(1, NAME, "POST", "/v1/chat/completions", True, 0.0)
        )

    def finished(self, outcome: Any, attempts: int = 1) -> None:
        self.ledger.finished(
            Finished(1, NAME, outcome, None, None, attempts, None, started=0.0, time=1.0)
        )

    def violations(self, *attempts: dict[str, Any]) -> list[str]:
        self.ledger.settle({NAME: attempts} if attempts else {})
        return self.ledger.violations


def test_what_all_agree_on() -> None:
    case = Case()
    case.finished("completed")
    case.ledger.completed(case.entry, answer(text_of(NAME)))
    assert case.violations(GOOD) == []
    assert case.ledger.outcomes == {"completed": 1}

    case = Case()
    case.finished("failed")
    case.ledger.failed(case.entry, StreamInterruptedError("x", partial=answer(text_of(NAME)[:3])))
    assert case.violations(CUT) == []
    assert case.ledger.outcomes == {"error StreamInterruptedError": 1}


@pytest.mark.parametrize(
    ("text", "attempts", "told", "found"),
    [
        (text_of(NAME)[:-1], [GOOD], "completed", "counted as completed with"),
        (text_of("1-1-1"), [GOOD], "completed", "counted as completed with"),
        (text_of(NAME), [CUT], "completed", "the server had not sent it whole"),
        (text_of(NAME), [GOOD], "failed", "the observer was told failed"),
        (text_of(NAME), [CUT, GOOD], "completed", "sent again after a byte of the body"),
        (text_of(NAME), [GOOD, GOOD, GOOD], "completed", "more requests than were sent"),
    ],
)
def test_a_completed_one_that_is_none(
    text: str, attempts: list[dict[str, Any]], told: str, found: str
) -> None:
    case = Case()
    case.finished(told, attempts=len(attempts))
    case.ledger.completed(case.entry, answer(text))
    assert any(found in violation for violation in case.violations(*attempts))


@pytest.mark.parametrize(
    ("error", "attempt", "found"),
    [
        (StreamInterruptedError("x", partial=answer("else")), CUT, "failed with 'else'"),
        (StreamInterruptedError("x", partial=answer("")), GOOD, "good is not"),
        (ValueError("x"), CUT, "no error of the library"),
    ],
)
def test_an_error_that_should_not_be(error: Exception, attempt: dict[str, Any], found: str) -> None:
    case = Case()
    case.finished("failed")
    case.ledger.failed(case.entry, error)
    assert any(found in violation for violation in case.violations(attempt))


def test_a_timeout_may_always_be() -> None:
    case = Case()
    case.finished("failed")
    case.ledger.failed(case.entry, ReadTimeout("x", partial=answer("")))
    assert case.violations(GOOD) == []


def test_what_never_ends_ends_twice_or_was_never_asked_for() -> None:
    case = Case()
    assert any("it never ended" in violation for violation in case.violations())
    case = Case()
    case.ledger.end(case.entry, "cancelled")
    case.ledger.end(case.entry, "abandoned")
    assert case.ledger.violations == [f"{NAME}: abandoned after cancelled"]
    ledger = Ledger()
    ledger.settle({"2-2-2": [GOOD]})
    assert ledger.violations == ["2-2-2: the server has a request that nobody asked for"]


# --- the choices ---


def test_a_seed_chooses_everything() -> None:
    for number in range(50):
        assert Operation.draw(7, number) == Operation.draw(7, number)
        name = f"7-{number}-0"
        for streaming in (True, False):
            first = plan(7, name, 0, streaming=streaming)
            assert first == plan(7, name, 0, streaming=streaming)
    assert len({Operation.draw(seed, 0) for seed in range(20)}) == 20


def test_everything_is_chosen() -> None:
    operations = [Operation.draw(1, number) for number in range(500)]
    assert {operation.way for operation in operations} == set(WAYS)
    kinds = {plan(1, f"1-{number}-0", 0, streaming=True).kind for number in range(1500)}
    assert kinds == set(STREAMED) == set(ERRORS)
