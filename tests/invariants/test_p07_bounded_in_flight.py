"""Promise 7: in flight <= limit, pulled <= delivered + limit + buffer, nothing after `break`."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import event, given

from .evidence import count
from .runs import Failed, Record, Run, runs
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


@given(run=runs())
async def test_random_runs(run: Run) -> None:
    count("examples")
    record = Record(run)
    await record.play()
    assert not record.violations
    assert record.most_running <= run.limit
    n = len(run.calls)
    fails = run.fails and run.source != "list"
    stopped = run.stop is not None and len(record.results) == run.stop
    event("stopped" if stopped else "ended")
    # Exactly one result for each item, unless the consumer left before.
    counts = Counter(result.index for result in record.results)
    assert max(counts.values(), default=1) == 1
    if not stopped:
        assert len(record.results) == n
        assert (record.error is not None) == fails
        assert record.begun == list(range(n)) or sorted(record.begun) == list(range(n))
    for result in record.results:
        duration, failed = run.calls[result.index]
        assert result.item == result.index
        assert isinstance(result.error, Failed) == failed
        assert result.value == (None if failed else 10 * result.index)
        assert result.ended - result.started == (duration or 0)
    # Closed, if it was begun.
    if run.source == "iterator":
        assert record.source_closed
    elif run.source != "list":
        assert record.source_closed or not record.pulled
