"""How many live streams one core carries before it falls behind.

Each stream gets RATE events a second at moments of its own, and every event says when it was
sent. A step holds when 99 of 100 events were delivered within DELAY. The client has one core
and the server another; a step at which the server itself was late says nothing of the client.
"""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Callable, Sequence

import msgspec

from . import drivers
from .measure import Job, Size
from .runner import one
from .serving import serving

__all__ = ["CLIENTS", "DELAY", "RATE", "Capacity", "Step", "measure_capacity", "search"]

RATE = 20  # events a second, which is what a stream of a mid-sized model gives
DELAY = 50.0  # milliseconds, p99: the time from one event to the next
LATE = 10.0  # milliseconds that the server itself may be late
FIRST, MOST = 100, 8000  # streams; more than MOST connections need more ports and files than usual
CLOSE = 1.1  # the search ends when the least that failed is so near to the most that held

# The first has next to no cost of its own, and so shows how far the server can be believed.
CLIENTS = ("raw@uvloop", "penstock", "penstock@uvloop", "penstock@trio", "openai")


class Step(msgspec.Struct):
    """One number of streams, tried once."""

    streams: int
    verdict: str
    """held, behind (the client), late (the server), or failed."""
    delay: float = math.inf
    """p99, in milliseconds."""
    late: float = 0.0
    """The same of the server, against its own plan."""
    share: float = 0.0
    """Of its core that the client used."""


class Capacity(msgspec.Struct):
    """What the search for one client came to."""

    client: str
    streams: int
    """The most that held."""
    ended_by: str
    """The verdict on the least that did not hold; empty: all held."""
    steps: list[Step]


def measure_capacity(
    clients: Sequence[str], scale: str, say: Callable[[str], None]
) -> list[Capacity]:
    """One search for each of those clients that there are here."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    server_core, client_core = (cores[0], cores[-1]) if len(cores) > 1 else (None, None)
    # The streams end together, which is no part of what live ones cost: so many events that their
    # last ones are less than 1 of 100.
    events = {"full": 220, "quick": 160, "tiny": 4}[scale]
    warm_up = 1 if scale == "tiny" else RATE
    most = 20 if scale == "tiny" else MOST
    found: list[Capacity] = []
    with serving(core=server_core) as server:
        for client in filter(drivers.available, clients):

            def attempt(streams: int, client: str = client) -> Step:
                size = Size(streams, events, RATE, warm_up)
                job = Job("timed", client, size, patience=40, core=client_core)
                try:
                    result = one(job, server)
                except (RuntimeError, subprocess.TimeoutExpired):
                    step = Step(streams, "failed")
                else:
                    step = Step(
                        streams,
                        _verdict(result.figure, result.late),
                        result.figure,
                        result.late,
                        result.cpu / result.wall,
                    )
                say(
                    f"capacity      {client:16} {streams:6} streams: {step.verdict}, "
                    f"{step.delay:.1f} ms, server {step.late:.1f} ms, core {step.share:.0%}"
                )
                return step

            found.append(search(client, attempt, min(FIRST, most), most))
    return found


def _verdict(delay: float, late: float) -> str:
    if late > LATE:
        return "late"
    return "held" if delay <= DELAY else "behind"


def search(client: str, attempt: Callable[[int], Step], first: int, most: int) -> Capacity:
    """Up by what the last step's share of the core promises, then by halves.

    A step that does not hold has a second try: the machine may have been busy elsewhere.
    """
    steps: list[Step] = []
    held, failed, ended_by = 0, most + 1, ""
    streams = first
    while held < streams < failed:
        step = attempt(streams)
        steps.append(step)
        if step.verdict != "held":
            step = attempt(streams)
            steps.append(step)
        if step.verdict == "held":
            held = streams
        else:
            failed, ended_by = streams, step.verdict
        if ended_by == "":
            promised = 0.85 / max(step.share, 0.01)
            streams = min(most, math.ceil(held * min(8.0, max(1.25, promised))))
        elif failed <= held * CLOSE:
            break
        else:
            streams = round(math.sqrt(held * failed)) if held else failed // 3
    return Capacity(client, held, ended_by, steps)
