"""Progress: when something is shown, and what."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock.batch import Report
from penstock.cli.progress import Progress, plain, summary

NOTHING = Report(100, 0, 0, 0, {}, 0, 0, {}, 0.0, None, None)


def report(**changes: Any) -> Report:
    return msgspec.structs.replace(NOTHING, **changes)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_every_so_many_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress("lines", 10.0, clock)
    for second in range(26):
        clock.now = float(second)
        progress.update(report(answered=second, failed=2, failures={"timeout": 2}))
    assert capsys.readouterr().err.splitlines() == [
        "12/100, 12%, 1.0 rows/s, 1:28 min left, 2 failed (timeout 2)",
        "22/100, 22%, 1.0 rows/s, 1:18 min left, 2 failed (timeout 2)",
    ]


def test_rows_done_before_are_done_and_say_nothing_of_the_pace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    progress = Progress("lines", 10.0, clock)
    progress.update(report(already_done=50))
    clock.now = 10.0
    progress.update(report(already_done=50, answered=5))
    assert capsys.readouterr().err == "55/100, 55%, 0.5 rows/s, 1:30 min left\n"


def test_a_notice_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("lines", 10.0, Clock())
    for message in (None, "away", "away", None, "away", "away"):
        progress.update(report(message=message))
    assert capsys.readouterr().err == "penstock: away\npenstock: away\n"


def test_a_bar_is_one_line_and_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("bar", 10.0, Clock())
    progress.update(report())
    progress.update(report(message="away"))
    progress.finish(report(answered=100, seconds=5.0))
    assert capsys.readouterr().err == (
        "\r\x1b[K0/100, 0%, 0.0 rows/s\r\x1b[Kpenstock: away\n\r\x1b[K0/100, 0%, 0.0 rows/s\r\x1b[K"
        "100 rows: 100 answered, 0 failed, 0 retries, 5.0 s\n"
    )


def test_none_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("none", 10.0, Clock())
    progress.update(report(message="away"))
    progress.finish(report())
    assert capsys.readouterr().err == ""


def test_the_last_line() -> None:
    shown = summary(
        report(
            already_done=10,
            answered=50,
            failed=3,
            failures={"timeout": 1, "bad_request": 2},
            retries=7,
            usage={"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
            seconds=4000.0,
        )
    )
    assert shown == (
        "100 rows: 50 answered, 10 done before, 3 failed (bad_request 2, timeout 1), 37 not asked,"
        " 7 retries, 5 prompt + 6 completion tokens, 1:06:40"
    )


def test_no_control_characters() -> None:
    assert plain("a\n\tb\x1b[31m\x07") == "a b\ufffd[31m\ufffd"
