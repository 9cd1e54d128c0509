"""The soak itself: hundreds of tasks in rounds, and a balance after each round."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import count
from typing import Any

import anyio
import msgspec
import sniffio
import trio  # noqa: F401 - threads that import it at once can meet a KeyError of Python's

from penstock import AsyncClient, Client, Limiter, Timeouts
from penstock.testing.lookups import slow_lookups

from .disturbing import Opened, disturbed
from .interrupted import Interrupted, interrupting
from .ledger import Ledger
from .operations import Operation, Performer
from .record import Memory, Run
from .resources import Holdings, holdings, kept_streams, peak_memory
from .serving import Serving, serving

__all__ = ["Settings", "soak"]

LIMIT = 96
IN_VAIN = 0.1
"""The part of the requests that may run out of time, on a loaded machine, before the pace slows."""
HUNG = 90.0
"""Seconds; sixteen requests one after the other take half of it at the most."""
LOOKUP = 0.03
"""Seconds that the look-up of a name takes."""
QUIET = 5.0
"""Seconds within which the server has to see every connection closed that the client closed."""

# The medians of two thirds of the checkpoints may differ by so much. Resident memory is coarse:
# what a peak has left in half-used arenas stays, and each of many threads has an arena. So the
# last third is compared with the middle one, when most peaks have been. The interpreter's blocks
# are exact, but for idle connections, caches and counters, and are compared with the first third:
# a leak of one object in every tenth request of a long run is above it.
MEMORY_TOLERANCE = 16 * 1024 * 1024
BLOCKS_TOLERANCE = 6000
JUDGED_FROM = 8
"""Checkpoints; with fewer, what grows may be what is still warming up."""


class Settings(msgspec.Struct, frozen=True):
    """One run's."""

    seed: int
    seconds: float = 60.0
    operations: int | None = None
    """So many in each of two rounds, in place of `seconds` and `round_seconds`."""
    backend: str = "asyncio"
    tasks: int = 200
    round_seconds: float = 20.0
    load: float | None = None
    """Cores that client and server may take together; None: as many as they can."""
    patience: float = 3.0
    """`Timeouts.total` in seconds, to which the others are in proportion."""
    signals: bool = False
    """A second process is interrupted by signals, and forks, meanwhile."""
    only: int | None = None
    """The number of the one operation to perform, to look into it."""


class Mixture:
    """The blocking client, and what is used in other event loops; see `operations.Mixture`."""

    def __init__(self, server: Serving, ledger: Ledger, timeouts: Timeouts) -> None:
        self._url = f"http://127.0.0.1:{server.ports['plain']}/v1"
        self._settings: dict[str, Any] = {"proxy": "", "timeouts": timeouts, "observer": ledger}
        self.blocking_limiter = Limiter(8)
        self.blocking = self._make_blocking()
        self.uploader: AsyncClient
        self.loops = 0
        self.threads = 0
        self.generators = 0
        self.uploads = 0

    def client(self) -> AsyncClient:
        return AsyncClient(self._url, **self._settings, limiter=Limiter(4))

    def _make_blocking(self) -> Client:
        return Client(self._url, **self._settings, limiter=self.blocking_limiter)

    def renew(self) -> None:
        """Close the blocking client, and with it its event loop, and make another one."""
        self.blocking.close()
        self.blocking = self._make_blocking()


class Soak:
    """One run."""

    def __init__(self, settings: Settings, server: Serving) -> None:
        self._settings = settings
        self._server = server
        self._ledger = Ledger()
        self._limiter = Limiter(LIMIT)
        total = settings.patience
        self._timeouts = Timeouts(
            trailing=None,  # only what the server marks as the end counts as whole
            connect=total / 4,
            read=total / 7,
            first_token=total / 3,
            idle=total / 5,
            total=total,
        )
        self._clients: dict[str, AsyncClient] = {}
        self._mixture = Mixture(server, self._ledger, self._timeouts)
        self._performer = Performer(self._ledger, settings.seed, self._mixture)
        self._interrupted = Interrupted()
        self._half_dead = 0
        self._numbers = count()
        self._last: float = math.inf
        self._operations = 0
        self._ways: Counter[str] = Counter()
        self._disturbances: Counter[str] = Counter()
        self._pace = 0.0 if settings.load is None else settings.tasks / 100
        self._points: list[Holdings] = []
        self._connections = 0
        self._cpu = 0.0
        self._told = 0  # violations that have been printed: a long run may not reach its end

    async def run(self) -> Run:
        if sniffio.current_async_library() == "asyncio":
            asyncio.get_running_loop().set_exception_handler(self._unhandled)
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            stack.enter_context(slow_lookups(LOOKUP))
            for name in ("plain", "named", "tls", "flapping"):
                self._clients[name] = await stack.enter_async_context(self._client(name))
            self._mixture.uploader = await stack.enter_async_context(self._uploader())
            if self._settings.signals:
                self._interrupted = stack.enter_context(interrupting(self._settings.seed))
            for length in self._rounds():
                await self._round(length)
            seconds = time.monotonic() - began
        self._ledger.violations += self._interrupted.violations
        self._flat()
        return self._summary(seconds)

    def _uploader(self) -> AsyncClient:
        url = f"http://127.0.0.1:{self._server.ports['refusing']}/v1"
        return AsyncClient(url, proxy="", timeouts=self._timeouts)

    def _client(self, name: str) -> AsyncClient:
        scheme = "https" if name == "tls" else "http"
        host = "localhost" if name == "named" else "127.0.0.1"
        port = self._server.ports["plain" if name == "named" else name]
        return AsyncClient(
            f"{scheme}://{host}:{port}/v1",
            proxy="",
            ssl_context=self._server.ssl_context if name == "tls" else None,
            timeouts=self._timeouts,
            limiter=self._limiter,
            observer=self._ledger,
        )

    # --- a round ---

    def _rounds(self) -> Iterator[float]:
        """How long each may take."""
        settings = self._settings
        if settings.only is not None:
            yield 0.0
        elif settings.operations is not None:
            yield from [math.inf] * 2
        else:
            # A short one first: imports and caches are no leaks.
            end = time.monotonic() + settings.seconds
            yield min(2.0, settings.seconds / 4)
            while (rest := end - time.monotonic()) > 0:
                yield min(settings.round_seconds, rest)

    async def _round(self, seconds: float) -> None:
        began, cpu = time.monotonic(), time.process_time() + self._cpu
        requests, late = self._ledger.requests, self._late()
        only = self._settings.only
        if only is not None:
            await self._operate(only)
        else:
            if self._settings.operations is not None:
                self._numbers = count(self._operations)
                self._last = self._operations + self._settings.operations
            async with anyio.create_task_group() as group:
                for _ in range(self._settings.tasks):
                    group.start_soon(self._work, began + seconds)
        await self._balance()
        if self._settings.load is not None:
            load = (time.process_time() + self._cpu - cpu) / (time.monotonic() - began)
            share = (self._late() - late) / max(1, self._ledger.requests - requests)
            factor = max(load / self._settings.load, share / IN_VAIN)
            self._pace = min(20.0, self._pace * min(2.0, max(0.7, factor)))

    def _late(self) -> int:
        return self._ledger.outcomes["error TotalTimeout"]

    async def _work(self, until: float) -> None:
        jitter = random.Random()
        while True:
            await anyio.sleep(self._pace * jitter.uniform(0, 2))
            if time.monotonic() >= until or (number := next(self._numbers)) >= self._last:
                return
            await self._operate(number)

    async def _operate(self, number: int) -> None:
        operation = Operation.draw(self._settings.seed, number)
        if self._settings.only is not None:
            print(operation)
        self._operations += 1
        self._ways[operation.way] += 1
        self._disturbances[operation.disturbance] += 1

        async def work(opened: Opened) -> None:
            if operation.client != "own":
                client = self._clients[operation.client]
                await self._performer.perform(operation, client, opened)
                return
            async with self._client("plain") as client:
                opened(client)
                await self._performer.perform(operation, client, opened)

        with anyio.move_on_after(HUNG) as scope:
            try:
                await disturbed(operation.disturbance, operation.when, work)
            except Exception as error:  # noqa: BLE001 - told at the end, with the rest
                self._ledger.violation(f"{operation} raised {error!r}")
        if scope.cancelled_caught:
            self._ledger.violation(f"{operation} hung")

    # --- the balance ---

    async def _balance(self) -> None:
        """Everything is over: what is left?"""
        ledger = self._ledger
        self._mixture.renew()
        idle = await self._discard_idle()
        gc.collect()  # what was dropped is cut now, and closed in the loop's next turns
        await anyio.sleep(0.02)
        now = holdings()
        report = await self._quiet_server()
        ledger.settle(report["attempts"])
        ledger.violations += report["violations"]
        self._connections, self._cpu = report["connections"], report["cpu"]
        self._half_dead = report["half_dead"]
        for limiter in (self._limiter, self._mixture.blocking_limiter):
            slots = limiter.statistics()
            if slots.in_flight or slots.waiting:
                ledger.violation(f"slots were not given back: {slots}")
        for name, client in self._clients.items():
            if client._endpoint.service.live:
                ledger.violation(f"the client {name!r} holds calls that are over")
        if now.streams:
            ledger.violation(f"{now.streams} streams are still reachable: {kept_streams()}")
        first = self._points[0] if self._points else now
        if now.tasks > first.tasks:
            ledger.violation(f"{now.tasks} tasks are left where {first.tasks} were")
        if now.descriptors > first.descriptors:
            ledger.violation(f"{now.descriptors} files are open where {first.descriptors} were")
        self._points.append(now)
        for violation in ledger.violations[self._told :]:
            print(violation, file=sys.stderr)
        self._told = len(ledger.violations)
        print(
            f"{ledger.requests} requests, {len(ledger.violations)} violations,"
            f" {now.memory / 2**20:.1f} MiB, {now.blocks} blocks,"
            f" {now.descriptors} descriptors, {idle} were idle, pace {self._pace:.2f} s",
            file=sys.stderr,
            flush=True,
        )

    async def _discard_idle(self) -> int:
        """Close what waits for the next request: its number is nobody's business here."""
        count = 0
        for client in (*self._clients.values(), self._mixture.uploader):
            connections = client._connections
            connections._stop_timer()
            while connections._idle:
                count += 1
                await connections.discard(connections._idle.pop()[1])
        return count

    async def _quiet_server(self) -> dict[str, Any]:
        """The server's report, once it has no connection open."""
        report = self._server.report()
        end = time.monotonic() + QUIET
        while report["open"] and time.monotonic() < end:
            await anyio.sleep(0.02)
            later = self._server.report()
            for name, attempts in report["attempts"].items():
                later["attempts"][name] = attempts + later["attempts"].get(name, [])
            later["violations"] += report["violations"]
            report = later
        if report["open"]:
            self._ledger.violation(f"the server still has {report['open']} connections open")
        return report

    def _thirds(self) -> tuple[list[Holdings], list[Holdings], list[Holdings]]:
        points = self._points[1:] or self._points
        third = max(1, len(points) // 3)
        return points[:third], points[third:-third] or points[:third], points[-third:]

    def _flat(self) -> None:
        if len(self._points) < JUDGED_FROM:
            return
        first, middle, last = self._thirds()
        for name, former, tolerance in (
            ("memory", middle, MEMORY_TOLERANCE),
            ("blocks", first, BLOCKS_TOLERANCE),
        ):
            before, after = (_median(points, name) for points in (former, last))
            if after - before > tolerance:
                self._ledger.violation(f"{name} has grown from {before} to {after}")

    def _unhandled(self, loop: object, context: dict[str, Any]) -> None:
        self._ledger.violation(f"the event loop was left with {context}")

    def _summary(self, seconds: float) -> Run:
        ledger = self._ledger
        first, _, last = self._thirds()
        descriptors = [point.descriptors for point in self._points]
        return Run(
            backend=self._settings.backend,
            seed=self._settings.seed,
            seconds=round(seconds, 1),
            checkpoints=len(self._points),
            operations=self._operations,
            requests=ledger.requests,
            sent=ledger.sent,
            connections=self._connections,
            outcomes=dict(ledger.outcomes.most_common()),
            faults=dict(ledger.faults.most_common()),
            ways=dict(self._ways.most_common()),
            disturbances=dict(self._disturbances.most_common()),
            memory=Memory(
                first=_median(first, "memory"),
                last=_median(last, "memory"),
                peak=peak_memory(),
                blocks_first=_median(first, "blocks"),
                blocks_last=_median(last, "blocks"),
            ),
            descriptors=(min(descriptors), max(descriptors)),
            cpu=round((time.process_time() + self._cpu) / seconds, 2),
            loops=self._mixture.loops,
            threads=self._mixture.threads,
            generators=self._mixture.generators,
            uploads=self._mixture.uploads,
            half_dead=self._half_dead,
            signals=self._interrupted.signals,
            forks=self._interrupted.forks,
            violations=ledger.violations,
        )

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within, warnings and what cannot be raised are violations."""

        def unraisable(args: Any) -> None:
            self._ledger.violation(f"unraisable: {args.exc_value!r} in {args.object!r}")

        before = sys.unraisablehook
        with warnings.catch_warnings():
            warnings.simplefilter("always", ResourceWarning)
            warnings.showwarning = self._ledger.warned  # restored with the rest
            sys.unraisablehook = unraisable
            try:
                yield
            finally:
                sys.unraisablehook = before


def _median(points: list[Holdings], name: str) -> int:
    return int(statistics.median(getattr(point, name) for point in points))


def soak(settings: Settings) -> Run:
    """Run it; what was found is in `violations`."""
    backend = "trio" if settings.backend == "trio" else "asyncio"
    options = {} if backend == "trio" else {"use_uvloop": settings.backend == "uvloop"}
    with serving(settings.seed) as server:
        run = Soak(settings, server)
        with run.heard():
            return anyio.run(run.run, backend=backend, backend_options=options)
