"""Any faults, kills and changes of the files, against a model: nothing is lost, nothing doubled.

A kill is a cancellation at any time, and a tail torn off at any byte of what was written last.
"""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import batch
from penstock.testing.clock import virtual
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import error_reply, json_reply, status_reply
from penstock.testing.script import End, Pause, RecordedRequest, Reply, Reset, Stall, reply
from tests.support.chat import client_on

from .support import OK, answered, lines_of, number_of, write_rows

FAULTS = [
    error_reply(408),
    error_reply(409),
    error_reply(429),
    error_reply(429, headers={"retry-after": "3"}),
    error_reply(500),
    error_reply(503),
    json_reply({"error": {"message": "no"}}),
    status_reply(200, "<html>"),
    reply(Reset()),
    reply(End()),
    reply(OK.data[:-9], Reset()),
    reply(OK.data[:-9], End()),
]
REJECTIONS = [error_reply(400), error_reply(404), error_reply(413), error_reply(422)]


class Server:
    """Answers with faults at random; some rows are always rejected."""

    def __init__(self, seed: int, rejected: set[int], faults: float) -> None:
        self.chance = random.Random(seed)
        self.rejected = rejected
        self.faults = faults
        self.answers: dict[int, int] = {}

    def __call__(self, request: RecordedRequest) -> Reply:
        number = number_of(request)
        delay = Pause(self.chance.random())
        if self.chance.random() < self.faults:
            fault = self.chance.choice([*FAULTS, None])
            return reply(Stall()) if fault is None else reply(delay, *fault.steps)
        if number in self.rejected:
            return reply(delay, *self.chance.choice(REJECTIONS).steps)
        self.answers[number] = self.answers.get(number, 0) + 1
        return reply(delay, *OK.steps)


def tear(path: Path, chance: random.Random) -> None:
    """Leave what a crash may leave of the line that was written last."""
    data = path.read_bytes() if path.exists() else b""
    if not data or chance.random() < 0.3:
        return
    *whole, last = data.splitlines(keepends=True)
    torn = last[: chance.randrange(len(last))]
    garbage = chance.choice([b"", b"\0" * chance.randrange(1, 99), b"\xff\n"])
    path.write_bytes(b"".join(whole) + torn + garbage)


async def play(folder: Path, seed: int, kills: int, limit: int, faults: float) -> None:
    chance = random.Random(seed)
    rows = list(range(chance.randrange(1, 60)))
    rejected = {number for number in rows if chance.random() < 0.1}
    source, output = folder / "in.jsonl", folder / "out.jsonl"
    errors = folder / "out.errors.jsonl"
    write_rows(source, rows)
    server = Server(seed, rejected, faults)
    network = MemoryNetwork(server)
    for attempt in range(kills + 30):
        alive = attempt >= kills
        if alive:
            server.faults = 0.0
        async with client_on(network) as client:
            with anyio.move_on_after(None if alive else 10 * chance.random()):
                report = await batch.run_files(
                    client, source, output, limit=limit, ordered=chance.random() < 0.3
                )
                assert report.stopped is None
                assert report.answered + report.failed + report.already_done == report.rows
                assert report.failed == (len(lines_of(errors)) if errors.exists() else 0)
                if alive and report.failed == len(rejected):
                    break
        if not alive:
            tear(output, chance)
        chance.shuffle(rows)
        write_rows(source, rows)
    assert sorted(answered(output)) == sorted(set(rows) - rejected)
    if rejected:
        failed = {int(each["custom_id"].removeprefix("row ")) for each in lines_of(errors)}
        assert failed == rejected
    else:
        assert not errors.exists()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(
    seed=st.integers(0, 2**32),
    kills=st.integers(0, 4),
    limit=st.sampled_from([1, 3, 16]),
    faults=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_nothing_is_lost_and_nothing_doubled(
    backend: str, seed: int, kills: int, limit: int, faults: float
) -> None:
    name, options = virtual(backend)
    with TemporaryDirectory() as folder:
        anyio.run(
            play, Path(folder), seed, kills, limit, faults, backend=name, backend_options=options
        )
