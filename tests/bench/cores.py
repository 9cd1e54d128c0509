"""What several cores bring: processes, and threads with an event loop each.

    python -m tests.bench.cores                                  prints the table
    python -m tests.bench.cores --publish docs/pages/topics      writes it into the page

Each runner reads the same long streams, one after the other, so that decoding dominates; all of
a round begin together. The ways take turns.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec

from tests.support.page_blocks import renew, table

from . import payloads
from .drivers import load
from .drivers.base import Address, NoPause
from .serving import ROOT, Server, serving
from .work import WrongAnswer

__all__ = ["WAYS", "Way", "main", "measure"]

EVENTS = 20_000  # of each stream
PAGE = "cores.md"


class Way(msgspec.Struct, frozen=True):
    """So many processes, each with so many threads."""

    processes: int
    threads: int

    def __str__(self) -> str:
        processes = f"{self.processes} process{'es' * (self.processes > 1)}"
        if self.threads == 1:
            return processes
        return f"{processes}, {self.threads} threads with an event loop each"


WAYS = (Way(1, 1), Way(2, 1), Way(1, 2))


class Span(msgspec.Struct):
    """What one process did."""

    begun: float
    """On the machine's monotonic clock, as `ended`."""
    ended: float
    cpu: float
    events: int


def run(base_url: str, threads: int, streams: int, events: int) -> Span:
    """Read the streams in each of the threads, once a line has come on standard input."""
    ready, start = threading.Barrier(threads + 1), threading.Event()
    failed: list[Exception] = []
    expected = payloads.text(events)

    async def read() -> None:
        async with load("penstock").open(Address(base_url)) as peer:
            await peer.stream("burst:20", NoPause())
            ready.wait()
            start.wait()
            for _ in range(streams):
                received = await peer.stream(f"burst:{events}", NoPause())
                if received.text != expected:
                    raise WrongAnswer(f"{received.events} events, not {events}")

    def work() -> None:
        try:
            anyio.run(read)
        except Exception as error:  # noqa: BLE001 - raised below
            failed.append(error)
            ready.abort()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    print("ready", flush=True)
    sys.stdin.readline()
    begun, cpu = time.monotonic(), time.process_time()
    start.set()
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]
    return Span(begun, time.monotonic(), time.process_time() - cpu, threads * streams * events)


def measure(way: Way, server: Server, streams: int, events: int = EVENTS) -> tuple[float, float]:
    """Return events a second, and microseconds of CPU an event, of all processes together."""
    arguments = [server.plain, str(way.threads), str(streams), str(events)]
    command = [sys.executable, "-m", "tests.bench.cores", "--runner", *arguments]
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(way.processes)
    ]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{way}: a process did not begin")
    outputs: list[str] = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, _ = process.communicate(timeout=600)
        if process.returncode:
            raise RuntimeError(f"{way}: a process failed")
        outputs.append(output)
    spans = [msgspec.json.decode(output, type=Span) for output in outputs]
    events = sum(span.events for span in spans)
    seconds = max(span.ended for span in spans) - min(span.begun for span in spans)
    return events / seconds, sum(span.cpu for span in spans) / events * 1e6


def rows(found: dict[Way, list[tuple[float, float]]]) -> list[list[str]]:
    """Return the lines of the table: medians, and the speed as a multiple of the first way's."""
    lines = [["", "events a second", "compared with one", "CPU an event"]]
    medians = {
        way: tuple(statistics.median(column) for column in zip(*runs, strict=True))
        for way, runs in found.items()
    }
    first = next(iter(medians.values()))[0]
    for way, (speed, cpu) in medians.items():
        lines.append([str(way), f"{speed:,.0f}", f"{speed / first:.2f}", f"{cpu:.2f} µs"])
    return lines


def interpreter() -> str:
    """Return the interpreter's name, with whether it has a global lock."""
    free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return f"CPython {platform.python_version()}{', free-threaded' if free else ''}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cores", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--streams", type=int, default=20, help="of each runner, in a round")
    parser.add_argument("--events", type=int, default=EVENTS, help="of each stream")
    parser.add_argument("--publish", type=Path, metavar="FOLDER", help=f"that of {PAGE}")
    parser.add_argument("--runner", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.runner:
        base_url, *numbers = chosen.runner
        span = run(base_url, *map(int, numbers))
        print(json.dumps(msgspec.to_builtins(span)))
        return
    found: dict[Way, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with serving() as server:
        for _ in range(chosen.rounds):
            for way in WAYS:
                found[way].append(measure(way, server, chosen.streams, chosen.events))
    lines = rows(found)
    print(f"{interpreter()}\n\n{table(lines)}")
    if chosen.publish is not None:
        free = "free-threaded" if "free" in interpreter() else "lock"
        renew(chosen.publish / PAGE, "cores", [(free, f"{interpreter()}:\n\n{table(lines)}")])


if __name__ == "__main__":
    main()
