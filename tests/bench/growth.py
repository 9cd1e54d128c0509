"""How the cost of an event grows with the streams, the events and their size.

A client whose work is linear has flat curves. Each point is the median of some rounds in which
the clients take turns.
"""

from __future__ import annotations

import statistics
import subprocess
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from . import drivers
from .measure import Job, Result, Size
from .runner import several
from .serving import Server, serving
from .workloads import WORKLOADS

__all__ = ["CLIENTS", "SWEEPS", "Curve", "Point", "Sweep", "measure_growth"]

CLIENTS = ("penstock", "openai", "aiohttp", "raw")
_SDK_MOST = 1000  # streams: the OpenAI SDK opens no more connections


class Sweep(msgspec.Struct, frozen=True):
    """One dimension, and the points along it."""

    title: str
    along: str
    """The member of Size, and its name in the picture."""
    workload: str
    points: tuple[Size, ...]
    tiny: tuple[Size, ...]
    """For the test suite."""
    openai_at_most: int = 10**9
    """Where the SDK has to stop."""
    alone: bool = False
    """Each point in a process of its own."""

    def at(self, size: Size) -> int:
        value: int = getattr(size, self.along)
        return value


class Point(msgspec.Struct):
    """The medians at one place."""

    at: int
    figure: float
    """In the curve's unit."""
    cpu: float
    """Microseconds an event."""


class Curve(msgspec.Struct):
    """One client along one sweep."""

    sweep: str
    client: str
    unit: str
    points: list[Point]

    def last_tenfold(self) -> float | None:
        """The figure at the end as a multiple of that at a tenth of the way or less."""
        last = self.points[-1]
        before = [point for point in self.points if point.at * 10 <= last.at]
        return last.figure / before[-1].figure if before and before[-1].figure else None


def _live(streams: int) -> Size:
    # At most 10 000 events a second in all, so that every client keeps up. As many events of each
    # stream at every point, else the end of a stream weighs more on some of them.
    return Size(streams, 2 + 20, max(2, min(50, 10_000 // streams)), warm_up=2)


def _one_after_another(events: int) -> Size:
    return Size(max(1, 20_000 // events), events, warm_up=2)


def _large(characters: int) -> Size:
    return Size(1, max(4, 4_000_000 // (characters + 250)), warm_up=1, characters=characters)


SWEEPS = {
    "streams": Sweep(
        "live streams, an event at a time",
        "streams",
        "paced",
        tuple(map(_live, (1, 5, 50, 500, 5000))),
        (Size(2, 4, 100, 1), Size(4, 4, 100, 1)),
        openai_at_most=_SDK_MOST,
    ),
    "requests": Sweep(
        "streams of 20 events, all at once",
        "streams",
        "fan",
        tuple(Size(streams, 20, warm_up=5) for streams in (5, 50, 500, 5000)),
        (Size(2, 20, warm_up=1), Size(4, 20, warm_up=1)),
        openai_at_most=_SDK_MOST,
    ),
    "events": Sweep(
        "events of a stream, many in a segment",
        "events",
        "repeated",
        tuple(map(_one_after_another, (10, 30, 100, 300, 1000, 3000, 10_000))),
        (Size(2, 10, warm_up=1), Size(1, 20, warm_up=1)),
    ),
    "size": Sweep(
        "characters of an event",
        "characters",
        "repeated-bytes",
        tuple(map(_large, (100, 1000, 10_000, 100_000, 2**20))),
        (Size(1, 4, warm_up=1, characters=100), Size(1, 4, warm_up=1, characters=2**17)),
    ),
    "held": Sweep(
        "events of a stream whose reader keeps nothing",
        "events",
        "long",
        tuple(Size(1, events, warm_up=3) for events in (1000, 10_000, 100_000)),
        (Size(1, 20, warm_up=1), Size(1, 200, warm_up=1)),
        openai_at_most=10_000,
        alone=True,
    ),
}


def measure_growth(
    sweeps: Sequence[str],
    clients: Sequence[str],
    scale: str,
    rounds: int,
    say: Callable[[str], None],
) -> list[Curve]:
    """Every sweep with each of those clients that there are here."""
    curves: list[Curve] = []
    with serving() as server:
        for name in sweeps:
            results: defaultdict[str, list[list[Result]]] = defaultdict(list)
            for _ in range(rounds):
                for client in filter(drivers.available, clients):
                    try:
                        results[client].append(_round(SWEEPS[name], client, scale, server))
                    except (RuntimeError, subprocess.TimeoutExpired) as error:
                        say(f"{name:13} {client:16} FAILED\n{error}")
            for client, gathered in results.items():
                if gathered:
                    curves.append(_curve(name, client, scale, gathered))
                    figures = [f"{point.at}: {point.figure:.3g}" for point in curves[-1].points]
                    say(f"{name:13} {client:16} {'  '.join(figures)} {curves[-1].unit}")
    return curves


def _sizes(sweep: Sweep, client: str, scale: str) -> Sequence[Size]:
    sizes: Sequence[Size] = sweep.tiny if scale == "tiny" else sweep.points
    if scale == "quick":
        sizes = sizes[: -(-len(sizes) * 3 // 4)]
    if client.partition("@")[0] != "openai":
        return sizes
    sizes = [size for size in sizes if sweep.at(size) <= sweep.openai_at_most]
    if sweep.along == "streams":
        return sizes
    # A tenth of the repetitions is enough for one that needs so much longer for each.
    return [msgspec.structs.replace(size, streams=-(-size.streams // 10)) for size in sizes]


def _round(sweep: Sweep, client: str, scale: str, server: Server) -> list[Result]:
    work = [Job(sweep.workload, client, size) for size in _sizes(sweep, client, scale)]
    if sweep.alone:
        return [result for job in work for result in several([job], server)]
    return several(work, server)


def _curve(name: str, client: str, scale: str, gathered: list[list[Result]]) -> Curve:
    sweep = SWEEPS[name]
    points = [
        Point(
            sweep.at(size),
            statistics.median(result.figure for result in results),
            statistics.median(result.cpu / result.events * 1e6 for result in results),
        )
        for size, results in zip(
            _sizes(sweep, client, scale), zip(*gathered, strict=True), strict=True
        )
    ]
    return Curve(name, client, WORKLOADS[sweep.workload].unit, points)
