from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._policy.deadlines import (
    AnswerEnded,
    ConnectDeadline,
    Deadlines,
    UploadDeadline,
    WriteStalled,
)
from penstock.errors import (
    APITimeoutError,
    ConnectTimeout,
    FirstTokenTimeout,
    IdleTimeout,
    ReadTimeout,
    TotalTimeout,
)
from penstock.timeouts import Timeouts


def deadlines(
    *, streaming: bool = True, total_at: float = math.inf, read: float | None = None, **limits: Any
) -> Deadlines:
    total = None if total_at == math.inf else total_at
    return Deadlines(
        Timeouts(read=read, total=total, **limits), total_at=total_at, streaming=streaming
    )


def error_of(limits: Deadlines, now: float) -> tuple[float, type[Exception]]:
    """The deadline of a wait that begins now, and the class of its error."""
    return limits.begin(now), type(limits.error())


# Whole numbers, so that sums are exact.
moments = st.integers(min_value=0, max_value=1000)
limits_or_none = st.none() | st.integers(min_value=0, max_value=100)


def test_without_limits_there_is_no_deadline() -> None:
    assert deadlines().begin(5.0) == math.inf


@pytest.mark.parametrize("name", ["read", "first_token"])
def test_a_limit_counts_from_the_wait_s_begin(name: str) -> None:
    given: dict[str, Any] = {name: 10.0}
    limits = deadlines(**given)
    assert limits.begin(100.0) == 110.0


def test_the_time_of_the_last_end_never_goes_back() -> None:
    limits = deadlines(total_at=10.0)
    limits.check(1.0)
    assert limits.now == 1.0
    limits.begin(2.0)
    limits.end(4.0)
    # The wait had not been over at that time.
    limits.check(2.0)
    assert limits.now == 4.0
    limits.check(5.0)
    assert limits.now == 5.0


def test_time_between_waits_is_free() -> None:
    limits = deadlines(read=10.0)
    limits.begin(0.0)
    limits.end(4.0)
    assert limits.begin(1000.0) == 1006.0
    limits.end(1001.0)
    assert limits.begin(5000.0) == 5005.0


def test_any_byte_ends_the_silence_but_is_no_token() -> None:
    limits = deadlines(read=10.0, first_token=15.0)
    limits.begin(0.0)
    limits.end(8.0)
    limits.byte_arrived()
    assert error_of(limits, 8.0) == (15.0, FirstTokenTimeout)
    limits.end(9.0)
    limits.token_arrived()
    assert error_of(limits, 9.0) == (18.0, ReadTimeout)


def test_after_the_first_token_idle_counts() -> None:
    limits = deadlines(first_token=50.0, idle=5.0)
    assert error_of(limits, 0.0) == (50.0, FirstTokenTimeout)
    limits.end(30.0)
    limits.token_arrived()
    assert error_of(limits, 30.0) == (35.0, IdleTimeout)
    limits.end(33.0)
    limits.byte_arrived()  # a ping
    assert error_of(limits, 100.0) == (102.0, IdleTimeout)
    limits.end(101.0)
    limits.token_arrived()
    assert error_of(limits, 101.0) == (106.0, IdleTimeout)


def test_without_streaming_tokens_are_not_waited_for() -> None:
    limits = deadlines(streaming=False, first_token=1.0, idle=1.0)
    assert limits.begin(0.0) == math.inf


def test_total_is_a_point_in_time() -> None:
    limits = deadlines(read=10.0, total_at=15.0)
    assert error_of(limits, 0.0) == (10.0, ReadTimeout)
    limits.end(1.0)
    limits.byte_arrived()
    assert error_of(limits, 7.0) == (15.0, TotalTimeout)


def test_total_runs_out_though_nothing_was_waited_for() -> None:
    limits = deadlines(read=100.0, total_at=15.0)
    limits.begin(1.0)
    limits.end(1.0)
    limits.check(14.9)
    with pytest.raises(TotalTimeout):
        limits.check(15.0)
    assert isinstance(limits.error(), TotalTimeout)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"read": 5.0, "first_token": 5.0, "total_at": 5.0}, FirstTokenTimeout),
        ({"read": 5.0, "first_token": 6.0, "total_at": 5.0}, ReadTimeout),
        ({"read": 6.0, "first_token": 5.0, "total_at": 5.0}, FirstTokenTimeout),
        ({"read": 6.0, "first_token": 6.0, "total_at": 5.0}, TotalTimeout),
    ],
)
def test_at_a_tie_the_error_that_says_more(
    limits: dict[str, Any], expected: type[APITimeoutError]
) -> None:
    assert error_of(deadlines(**limits), 0.0) == (5.0, expected)


class Model:
    """The same rules as a history: how long was waited since which event."""

    def __init__(self, timeouts: Timeouts, total_at: float) -> None:
        self.timeouts = timeouts
        self.total_at = total_at
        self.waits: list[int | str] = []

    def deadline(self, now: int) -> tuple[float, set[type[APITimeoutError]]]:
        silent = self.since({"byte"})
        tokenless = self.since({"token"})
        seen = "token" in self.waits
        limit = self.timeouts.idle if seen else self.timeouts.first_token
        candidates: list[tuple[float, type[APITimeoutError]]] = [
            (now + value - used, kind)
            for value, used, kind in (
                (self.timeouts.read, silent, ReadTimeout),
                (limit, tokenless, IdleTimeout if seen else FirstTokenTimeout),
            )
            if value is not None
        ]
        candidates.append((self.total_at, TotalTimeout))
        first = min(at for at, _ in candidates)
        return first, {kind for at, kind in candidates if at == first}

    def since(self, names: set[str]) -> int:
        total = 0
        for entry in self.waits:
            if isinstance(entry, int):
                total += entry
            elif entry in names:
                total = 0
        return total


@given(
    limits_or_none,
    limits_or_none,
    limits_or_none,
    st.none() | moments,
    st.lists(st.tuples(moments, moments, st.sampled_from(["byte", "token", "cancelled"]))),
)
def test_any_history_gives_the_deadlines_of_the_rules(
    read: int | None,
    first_token: int | None,
    idle: int | None,
    total_at: int | None,
    history: list[tuple[int, int, str]],
) -> None:
    timeouts = Timeouts(read=read, first_token=first_token, idle=idle, total=total_at)
    end = math.inf if total_at is None else total_at
    limits = Deadlines(timeouts, total_at=end, streaming=True)
    model = Model(timeouts, end)
    now = 0
    for pause, wait, event in history:
        now += pause
        expected, kinds = model.deadline(now)
        deadline, kind = error_of(limits, now)
        assert deadline == expected
        assert kind in kinds or deadline == math.inf
        now += wait
        limits.end(now)
        model.waits.append(wait)
        if event in ("byte", "token"):
            limits.byte_arrived()
            model.waits.append("byte")
        if event == "token":
            limits.token_arrived()
            model.waits.append("token")


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"read": 2.5}, ("2.5 s", "Timeouts.read")),
        ({"first_token": 2.5}, ("2.5 s", "Timeouts.first_token")),
        ({"total_at": 2.5}, ("2.5 s", "Timeouts.total")),
    ],
)
def test_the_message_names_the_limit_and_the_setting(
    limits: dict[str, Any], named: tuple[str, str]
) -> None:
    waiting = deadlines(**limits)
    waiting.begin(0.0)
    for part in named:
        assert part in str(waiting.error())


def test_the_message_of_idle() -> None:
    limits = deadlines(idle=2.5)
    limits.begin(0.0)
    limits.end(0.0)
    limits.token_arrived()
    limits.begin(0.0)
    assert "2.5 s" in str(limits.error())
    assert "Timeouts.idle" in str(limits.error())


# --- after every finish_reason ---


def finished(**limits: Any) -> Deadlines:
    """Limits at 10 s, when every choice has its finish_reason."""
    waiting = deadlines(**limits)
    waiting.begin(0.0)
    waiting.end(10.0)
    waiting.byte_arrived()
    waiting.token_arrived()
    waiting.answer_finished(progress=True)
    return waiting


@pytest.mark.parametrize("limits", [{}, {"read": 0.5}, {"idle": 0.5}, {"first_token": 0.5}])
@pytest.mark.parametrize("trailing", [0.0, 1.0, 2.5])
def test_silence_ends_the_answer(trailing: float, limits: dict[str, Any]) -> None:
    assert error_of(finished(trailing=trailing, **limits), 10.0) == (10.0 + trailing, AnswerEnded)


def test_pings_do_not_prolong_it_and_tokens_do() -> None:
    limits = finished(trailing=2.0)
    limits.begin(10.0)
    limits.end(11.5)
    limits.byte_arrived()
    limits.answer_finished(progress=False)
    assert error_of(limits, 100.0) == (100.5, AnswerEnded)
    limits.end(100.25)
    limits.token_arrived()
    limits.answer_finished(progress=True)
    assert error_of(limits, 200.0) == (202.0, AnswerEnded)


def test_total_only_shortens_it() -> None:
    assert error_of(finished(trailing=2.0, total_at=11.0), 10.0) == (11.0, AnswerEnded)
    for now in (11.0, 12.0):
        with pytest.raises(AnswerEnded):
            finished(trailing=2.0, total_at=11.0).check(now)


def test_without_it_the_usual_limits_count() -> None:
    assert error_of(finished(trailing=None, read=30.0), 10.0) == (40.0, ReadTimeout)
    assert error_of(finished(trailing=None, idle=20.0), 10.0) == (30.0, IdleTimeout)
    with pytest.raises(TotalTimeout):
        finished(trailing=None, total_at=11.0).check(11.0)


@pytest.mark.parametrize("by_token", [True, False])
def test_another_choice_brings_the_usual_limits_back(by_token: bool) -> None:
    for limits, expected in (
        ({"read": 30.0}, (40.0, ReadTimeout)),
        ({"idle": 20.0}, (30.0, IdleTimeout)),
        ({"total_at": 25.0}, (25.0, TotalTimeout)),
    ):
        waiting = finished(**limits)
        if by_token:
            waiting.token_arrived()
        else:
            waiting.answer_goes_on()
        assert error_of(waiting, 10.0) == expected


# --- making a connection ---


@given(limits_or_none, st.none() | moments, moments, st.lists(moments))
def test_a_connection_has_one_deadline_for_all_its_steps(
    connect: int | None, total: int | None, now: int, steps: list[int]
) -> None:
    total_at = math.inf if total is None else total
    limits = ConnectDeadline(Timeouts(connect=connect, total=total), now=now, total_at=total_at)
    at = min(math.inf if connect is None else now + connect, total_at)
    for step in steps:
        assert limits.begin(step) == at
        limits.end(step + 1)
        limits.byte_arrived()
        if step < at:
            limits.check(step)
        else:
            with pytest.raises(APITimeoutError):
                limits.check(step)


@given(moments, st.integers(min_value=1, max_value=100), limits_or_none)
def test_a_connection_s_time_is_up_at_its_deadline(
    now: int, connect: int, total: int | None
) -> None:
    total_at = math.inf if total is None else now + total
    limits = ConnectDeadline(Timeouts(connect=connect, total=total), now=now, total_at=total_at)
    at = limits.begin(now)
    limits.check(at - 0.25)
    with pytest.raises(type(limits.error())):
        limits.check(at)


@pytest.mark.parametrize(
    ("connect", "total", "expected", "named"),
    [
        (3.0, None, ConnectTimeout, "3 s (Timeouts.connect)"),
        (3.0, 4.0, ConnectTimeout, "3 s (Timeouts.connect)"),
        (3.0, 3.0, ConnectTimeout, "3 s (Timeouts.connect)"),
        (3.0, 2.0, TotalTimeout, "2 s in all (Timeouts.total)"),
        (None, 2.0, TotalTimeout, "2 s in all (Timeouts.total)"),
    ],
)
def test_which_error_a_connection_gets(
    connect: float | None, total: float | None, expected: type[APITimeoutError], named: str
) -> None:
    total_at = math.inf if total is None else total
    limits = ConnectDeadline(Timeouts(connect=connect, total=total), now=0.0, total_at=total_at)
    assert type(limits.error()) is expected
    assert named in str(limits.error())


@given(steps=st.lists(st.tuples(moments, moments), min_size=1))
def test_it_knows_the_time_and_how_long_was_waited(steps: list[tuple[int, int]]) -> None:
    limits = deadlines()
    assert math.isnan(limits.now)
    now = waited = 0.0
    for between, wait in steps:
        now += between
        limits.begin(now)
        now += wait
        waited += wait
        limits.end(now)
        assert (limits.now, limits.waited) == (now, waited)
        limits.check(now + 0.5)
        assert (limits.now, limits.waited) == (now + 0.5, waited)


def test_an_upload_has_a_limit_of_its_own() -> None:
    for write, read, kind in ((2, 5, WriteStalled), (5, 2, ReadTimeout), (3, 3, ReadTimeout)):
        inner = Deadlines(Timeouts(read=read), total_at=math.inf, streaming=True)
        upload = UploadDeadline(inner, write)
        assert upload.begin(10) == 10 + min(write, read)
        upload.end(11)
        assert upload.begin(20) == 20 + min(write, read) - 1
        upload.end(20.5)
        upload.byte_arrived()
        assert upload.begin(30) == 30 + min(write, read)
        assert type(upload.error()) is kind


def test_an_upload_keeps_the_total() -> None:
    inner = Deadlines(Timeouts(total=5), total_at=5, streaming=True)
    upload = UploadDeadline(inner, 100)
    assert upload.begin(1) == 5
    upload.check(4)
    with pytest.raises(TotalTimeout):
        upload.check(5)
