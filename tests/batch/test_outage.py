"""Outages: when a failure counts, and when patience ends."""

from __future__ import annotations

from penstock.batch.outage import Outage


def test_a_failure_counts_when_a_later_request_was_answered() -> None:
    outage = Outage(10)
    early, failing = outage.sent(), outage.sent()
    mark = outage.failed(1.0)
    outage.ended(failing)
    assert not outage.counts(mark)
    # It was sent before the failure, and says nothing about the server after it.
    outage.answered(early)
    assert not outage.counts(mark)
    outage.answered(outage.sent())
    assert outage.counts(mark)


def test_an_answer_counts_for_every_failure_before_its_request() -> None:
    outage = Outage(10)
    outage.sent()
    marks = [outage.failed(1.0), outage.failed(2.0)]
    late = outage.sent()
    marks.append(outage.failed(3.0))
    outage.answered(late)
    assert [outage.counts(mark) for mark in marks] == [True, True, False]


def test_patience_ends_so_long_after_the_first_failure() -> None:
    outage = Outage(10)
    assert not outage.expired(1e9)
    outage.ended(outage.sent())
    outage.failed(5.0)
    outage.failed(9.0)
    assert outage.expires == 15.0
    assert not outage.expired(14.9)
    assert outage.expired(15.0)


def test_any_answer_begins_patience_anew() -> None:
    outage = Outage(10)
    early = outage.sent()
    outage.ended(outage.sent())
    outage.failed(5.0)
    outage.answered(early)
    outage.ended(early)
    assert not outage.is_on
    outage.failed(12.0)
    assert not outage.expired(15.0)
    assert outage.expired(22.0)


def test_requests_from_before_an_outage_are_waited_for() -> None:
    outage = Outage(10)
    long = outage.sent()
    outage.ended(outage.sent())
    outage.failed(5.0)
    late = outage.sent()
    assert not outage.expired(20.0)
    outage.ended(long)
    assert outage.expired(20.0)
    outage.ended(late)
