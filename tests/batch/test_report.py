"""The figures of a run."""

from __future__ import annotations

import msgspec

from penstock.batch import Report


def test_what_is_done() -> None:
    report = Report(10, 2, 3, 1, {"timeout": 1}, 5, 1, {}, 1.5, None, None)
    assert report.done == 6
    assert list(msgspec.to_builtins(report)) == [
        "rows", "already_done", "answered", "failed", "failures", "requests", "retries",
        "usage", "seconds", "stopped", "message",
    ]  # fmt: skip
