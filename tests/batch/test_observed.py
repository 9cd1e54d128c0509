"""What a batch reports is what its client's observers were told."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from penstock import AsyncClient
from penstock.batch import run_files
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply
from penstock.testing.script import RecordedRequest, Reply, Reset, reply
from tests.support.chat import URL, Watcher

from .support import number_of, write_rows

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["anyio_backend"]

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@pytest.mark.anyio
async def test_the_report_agrees_with_the_observers(tmp_path: Path) -> None:
    asked: Counter[int] = Counter()

    def answer(request: RecordedRequest) -> Reply:
        number = number_of(request)
        asked[number] += 1
        if number % 5 == 0:
            return error_reply(400, "not this one")
        if number % 3 == 0 and asked[number] == 1:
            return error_reply(503, headers={"retry-after": "1"})
        if number % 7 == 0 and asked[number] == 1:
            return reply(Reset())
        return json_reply(completion("Hello", usage=USAGE))

    rows = write_rows(tmp_path / "in.jsonl", range(40))
    watcher = Watcher()
    network = MemoryNetwork(answer)
    async with AsyncClient(URL, network=network, observer=watcher) as client:
        report = await run_files(client, rows, tmp_path / "out.jsonl")

    finished = watcher.of("finished")
    assert report.requests == len(finished)
    assert report.requests - report.retries == report.rows == 40
    # A dead idle connection costs a row nothing: the client sends the request again by itself.
    assert sum(event.attempts for event in finished) == len(network.requests)
    told = [event.usage for event in finished if event.usage is not None]
    assert report.usage == {name: sum(getattr(usage, name) for usage in told) for name in USAGE}
    assert report.answered == len(told)
