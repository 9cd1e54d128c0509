"""Jobs that are killed with SIGKILL at random instants, and finished; each time the files are read.

    python -m tests.batch.killing --jobs 20 --rows 2000 --kills 10 --seed 1

Each job is drawn: compressed or not, ordered or not, streamed or not, one server or three, the
event loop, the places, and the share of requests that fail. After each kill every line of the
output but the last must be a whole answer to its row, no row may have two, and no line that was
there before may be missing. At the end every row has its own answer, in order if that was asked.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import msgspec

from penstock.batch.rows import Params, row_of_line
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import Pause, RecordedRequest, Reply, Reset, reply
from penstock.testing.server import serve_in_thread

from .support import line, number_of

__all__ = ["Draw", "Found", "play"]

FAULTS = [
    error_reply(429, headers={"retry-after": "0"}),
    error_reply(500),
    error_reply(503),
    reply(Reset()),
    reply(json_reply(completion("x")).data[:60], Reset()),
]


class Draw(msgspec.Struct, frozen=True):
    """What a job is like."""

    compressed: bool
    ordered: bool
    stream: bool
    servers: int
    backend: str
    concurrency: int
    faults: float

    @classmethod
    def from_chance(cls, chance: random.Random) -> Draw:
        """Return a job drawn by lot."""
        return cls(
            chance.random() < 0.4,
            chance.random() < 0.5,
            chance.random() < 0.3,
            chance.choice([1, 1, 3]),
            chance.choice(["asyncio", "asyncio", "trio", "uvloop"]),
            chance.choice([1, 8, 32]),
            chance.choice([0.0, 0.02, 0.1]),
        )


class Found(msgspec.Struct):
    """What has come of some jobs."""

    jobs: int = 0
    kills: int = 0
    rows: int = 0
    requests: int = 0
    before_an_answer: int = 0
    """Kills before the first answer of their process: while it starts, or looks at the files."""
    at_the_end: int = 0
    """Kills with all answers there: while it sorts, or ends."""
    torn: int = 0
    """Lines that were cut off by a kill."""
    too_late: int = 0
    """Processes that had ended before they were killed."""


class Answers:
    """The server: it answers each row with its number, and fails by lot."""

    def __init__(self, draw: Draw, seed: int) -> None:
        self._draw = draw
        self._chance = random.Random(seed)

    def __call__(self, request: RecordedRequest) -> Reply:
        if self._chance.random() < self._draw.faults:
            return self._chance.choice(FAULTS)
        text = f"answer {number_of(request)}"
        whole = sse_reply(tokens(text)) if self._draw.stream else json_reply(completion(text))
        return reply(Pause(0.01 * self._chance.random()), *whole.steps)


class Files:
    """The files of a job, and what must be true of them."""

    def __init__(self, folder: Path, draw: Draw, rows: int, chance: random.Random) -> None:
        self.output = folder / "out.jsonl"
        self.errors = folder / "out.errors.jsonl"
        self.numbers = list(range(rows))
        chance.shuffle(self.numbers)
        data = b"".join(map(line, self.numbers))
        self.input = folder / ("in.jsonl.gz" if draw.compressed else "in.jsonl")
        self.input.write_bytes(gzip.compress(data, 1) if draw.compressed else data)
        nothing = Params()
        self._ids = {number: row_of_line(line(number), nothing).id for number in self.numbers}
        self._seen: set[bytes] = set()

    def check(self) -> tuple[int, bool]:
        """Return how many rows are answered, and whether a line was torn. AssertionError."""
        data = self.output.read_bytes() if self.output.exists() else b""
        *whole, tail = data.split(b"\n")
        numbers = list(map(self._number, whole))
        [twice] = [*[row for row, count in Counter(numbers).items() if count > 1], None][:1]
        assert twice is None, f"row {twice} is answered twice"
        missing = self._seen - set(whole)
        assert not missing, f"{len(missing)} lines are gone, for instance {missing.pop()!r}"
        self._seen = set(whole)
        return len(whole), bool(tail)

    def _number(self, text: bytes) -> int:
        found = json.loads(text)
        assert list(found) == ["id", "custom_id", "response", "error"], text
        number = int(found["custom_id"].removeprefix("row "))
        said = found["response"]["body"]["choices"][0]["message"]["content"]
        assert said == f"answer {number}", text
        assert found["id"] == self._ids[number], text
        assert (found["response"]["status_code"], found["error"]) == (200, None), text
        return number

    def check_end(self, draw: Draw) -> None:
        """Raise AssertionError if the job is not done as it was drawn."""
        self.check()
        numbers = [self._number(text) for text in self.output.read_bytes().splitlines()]
        assert sorted(numbers) == sorted(self.numbers)
        assert not draw.ordered or numbers == self.numbers
        left = {path.name for path in self.output.parent.iterdir()}
        assert left == {self.input.name, self.output.name}, left


def play(draw: Draw, rows: int, kills: int, seed: int, found: Found) -> None:
    """Run one job to its end, killed so many times on the way. AssertionError if it went wrong."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        files = Files(Path(folder), draw, rows, chance)
        answers = Answers(draw, seed)
        servers = [stack.enter_context(serve_in_thread(answers)) for _ in range(draw.servers)]
        command = [sys.executable, "-m", "penstock", "batch", "--progress", "none"]
        for server in servers:
            command += ["--base-url", server.base_url]
        command += ["--backend", draw.backend, "--concurrency", str(draw.concurrency)]
        command += ["--ordered"] * draw.ordered + ["--stream"] * draw.stream
        command += [str(files.input), str(files.output)]
        answered = 0
        for number in range(kills):
            wanted = answered + int((rows - answered) * chance.random())
            with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
                if number % 3 == 0 and answered < rows:
                    time.sleep(1.2 * chance.random())
                else:
                    _wait_for_lines(process, files.output, wanted)
                    time.sleep(0.05 * chance.random())
                found.too_late += process.poll() is not None
                process.kill()
            before = answered
            answered, torn = files.check()
            found.kills += 1
            found.torn += torn
            found.before_an_answer += answered == before
            found.at_the_end += answered == rows
        # Rows that failed too often are asked again.
        while (ended := subprocess.run(command, capture_output=True, check=False)).returncode == 1:
            files.check()
        assert ended.returncode == 0, ended
        files.check_end(draw)
        found.jobs += 1
        found.rows += rows
        found.requests += sum(len(server.requests) for server in servers)


def _wait_for_lines(process: subprocess.Popen[bytes], path: Path, wanted: int) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= wanted:
            return
        time.sleep(0.005)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no job after so long")
    arguments = parser.parse_args()
    found, began = Found(), time.monotonic()
    for seed in range(arguments.seed, arguments.seed + arguments.jobs):
        if time.monotonic() - began > arguments.seconds:
            break
        draw = Draw.from_chance(random.Random(seed))
        print(f"seed {seed}: {draw}", flush=True)
        play(draw, arguments.rows, arguments.kills, seed, found)
    print(msgspec.json.encode(found).decode())


if __name__ == "__main__":
    main()
