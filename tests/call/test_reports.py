"""What a call tells its observer: under one number, its end once, nothing that nobody wants."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import ChatCompletion, Choice, Timeouts, Usage
from penstock._call.call import Call
from penstock._call.phases import Phases
from penstock._call.reports import Reports, Summary
from penstock._call.timings import Timings
from penstock._http.dial import Dialer
from penstock._http.outgoing import Outgoing
from penstock._wire.labels import Labels
from penstock._wire.request_head import RequestHead
from penstock._wire.url import Origin
from penstock.observing.notifier import Notifier
from tests.support.chat import Watcher

OUTGOING = Outgoing(RequestHead("POST", "/v1/chat/completions", []), b'{"messages":"private"}')
CALL = Call(OUTGOING, Timeouts(), 2, streaming=True, model="m")
USAGE = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
DIALER = Dialer(Origin("https", "llm.test", 443))
ANSWER = ChatCompletion(
    id="c-1",
    model="m-2026",
    choices=[Choice(index=0, finish_reason="stop"), Choice(index=1)],
    usage=USAGE,
)
ERROR = ValueError("no")
STEPS = ("request_started", "attempt_failed", "response_started", "first_token", "finished")


def do(reports: Reports, step: str, now: float) -> None:
    if step == "request_started":
        reports.request_started(now)
    elif step == "attempt_failed":
        reports.attempt_failed(1, ERROR, 0.5, now)
    elif step == "response_started":
        reports.response_started(1, 200, "r", now)
    elif step == "first_token":
        reports.first_token(now)
    else:
        reports.finished("completed", None, summary, attempts=1, request_id="r", now=now)


def summary(now: float) -> Summary:
    figures = Timings().statistics(
        attempts=1, events=0, bytes=0, started=0.0, headers_at=0.0, phases=Phases(), until=now
    )
    return Summary(figures, USAGE, ANSWER, Labels.of(ANSWER))


def reports_to(*observers: object) -> Reports:
    return Reports(Notifier(*observers), CALL, DIALER, "openai")


def test_every_event_says_what_it_was_told() -> None:
    watcher = Watcher()
    reports = reports_to(watcher)
    for now, step in enumerate(STEPS):
        do(reports, step, float(now))
    assert watcher.names == list(STEPS)
    started, failed, response, token, finished = (event for _, event in watcher.events)
    assert (started.model, started.method, started.path, started.stream, started.time) == (
        *("m", "POST", "/v1/chat/completions"),
        *(True, 0.0),
    )
    assert (failed.attempt, failed.error, failed.retry_in, failed.time) == (1, ERROR, 0.5, 1.0)
    assert (response.attempt, response.status_code, response.request_id) == (1, 200, "r")
    assert (response.time, token.time) == (2.0, 3.0)
    assert (finished.outcome, finished.error, finished.usage) == ("completed", None, USAGE)
    assert (finished.model, finished.attempts, finished.request_id) == ("m", 1, "r")
    assert (finished.started, finished.time) == (0.0, 4.0)
    assert (finished.finish_reasons, finished.response_id) == (("stop",), "c-1")
    assert (finished.response_model, finished.answer) == ("m-2026", ANSWER)
    assert finished.retries == (failed,)
    assert (started.host, started.port, started.provider) == ("llm.test", 443, "openai")
    assert started.body.json() == {"messages": "private"}
    assert "private" not in repr(started)
    assert "private" not in repr(finished)


@given(steps=st.lists(st.sampled_from(STEPS), max_size=12))
def test_whatever_comes_in_whatever_order(steps: list[str]) -> None:
    watcher = Watcher()
    reports = reports_to(watcher)
    for now, step in enumerate(steps):
        do(reports, step, float(now))
    assert len({event.id for _, event in watcher.events}) <= 1
    # The end comes once, and only of what has begun.
    begun = "request_started" in steps
    ends = [n for n, step in enumerate(steps) if step == "finished"]
    due = [n for n in ends if begun and n > steps.index("request_started")]
    assert len(watcher.of("finished")) == min(1, len(due))
    for step in set(STEPS) - {"finished"}:
        assert len(watcher.of(step)) == steps.count(step)


def test_each_call_has_a_number_of_its_own() -> None:
    watcher = Watcher()
    notifier = Notifier(watcher)
    several = [Reports(notifier, CALL, DIALER) for _ in range(5)]
    for reports in reversed(several):
        do(reports, "request_started", 0.0)
        do(reports, "first_token", 1.0)
    numbers = [event.id for event in watcher.of("request_started")]
    assert len(set(numbers)) == 5
    assert numbers == sorted(numbers, reverse=True)
    assert [event.id for event in watcher.of("first_token")] == numbers


@pytest.mark.parametrize("wanted", STEPS)
def test_nothing_is_made_for_what_nobody_wants(wanted: str) -> None:
    events: list[object] = []
    observer = type("Observer", (), {wanted: staticmethod(events.append)})()
    asked: list[int] = []

    def asking(now: float) -> Summary:
        asked.append(1)
        return summary(now)

    reports = reports_to(observer)
    for step in STEPS[:-1]:
        do(reports, step, 0.0)
    for _ in range(2):
        reports.finished("failed", ERROR, asking, attempts=1, request_id=None, now=1.0)
    assert len(events) == 1
    # Adding up an answer's usage may cost something.
    assert len(asked) == (wanted == "finished")


def test_an_observer_that_raises_is_told_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    class Observer:
        def request_started(self, event: Any) -> None:
            raise ZeroDivisionError

        def finished(self, event: Any) -> None:
            seen.append(event.outcome)

    reports = reports_to(Observer())
    for step in STEPS:
        do(reports, step, 0.0)
    assert seen == ["completed"]
    assert "request_started" in caplog.text
