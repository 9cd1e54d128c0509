"""Random runs of a fan-out: what the source, the calls and the consumer do, as plain data."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import anyio.lowlevel
from hypothesis import strategies as st

from penstock._limiter.limiter import Limiter
from penstock._many.fan_out import FanOut, Result, fan_out

# Multiples of a quarter: exact in binary, and few enough for things to happen at once.
PAUSES = st.sampled_from([None, 0.0, 0.25, 0.25, 0.5, 1.0, 3.0])
"""None is no suspension at all; 0 is one without time."""


class Failed(Exception):
    """A call's error."""


class SourceFailed(Exception):
    """The source's error."""


@dataclass(frozen=True)
class Run:
    """A script for all who take part."""

    calls: list[tuple[float | None, bool]]
    """For each item: how long its call takes, and whether it fails."""
    pulls: list[float | None]
    """How long the source takes for each item; one more for its end."""
    reads: list[float | None]
    """What the consumer does after each result."""
    source: Literal["list", "generator", "async generator", "iterator"]
    fails: bool
    """Whether the source raises instead of ending."""
    limit: int
    shared: bool
    """The limit is a Limiter, which somebody else uses as well."""
    buffer: int
    ordered: bool
    window: int | None
    patience: float | None
    """A deadline around each read; a read that is cancelled is repeated."""
    stop: int | None
    """`break` after so many results."""


@st.composite
def runs(draw: st.DrawFn, /, **fixed: Any) -> Run:
    """Scripts; `fixed` are fields to be as given."""
    calls = draw(st.lists(st.tuples(PAUSES, st.booleans()), max_size=14))
    ordered = fixed.get("ordered", draw(st.booleans()))
    n = len(calls)
    values: dict[str, Any] = {
        "calls": calls,
        "pulls": draw(st.lists(PAUSES, min_size=n + 1, max_size=n + 1)),
        "reads": draw(st.lists(PAUSES, min_size=n + 1, max_size=n + 1)),
        "source": draw(st.sampled_from(["list", "generator", "async generator", "iterator"])),
        "fails": draw(st.booleans()),
        "limit": draw(st.integers(1, 5)),
        "shared": draw(st.booleans()),
        "buffer": draw(st.integers(0, 3)),
        "ordered": ordered,
        "window": draw(st.none() | st.integers(1, 6)) if ordered else None,
        "patience": draw(st.none() | st.sampled_from([0.0, 0.125, 0.375])),
        "stop": draw(st.none() | st.integers(0, 14)),
    }
    return Run(**{**values, **fixed})


async def pause(seconds: float | None) -> None:
    if seconds is not None:
        await anyio.sleep(seconds)


@dataclass
class Record:
    """What happened in a run."""

    run: Run
    pulled: list[int] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    begun: list[int] = field(default_factory=list)
    results: list[Result[int, int]] = field(default_factory=list)
    left: bool = False
    source_closed: bool = False
    error: Exception | None = None
    limiter: Limiter | None = None
    violations: list[str] = field(default_factory=list)

    def expect(self, truth: bool, what: str) -> None:
        # Not raised where it happens: that may be in a call, whose errors are values.
        if not truth:
            self.violations.append(what)

    # --- those who take part ---

    def pull(self, number: int) -> None:
        self.pulled.append(number)
        run = self.run
        self.expect(not self.left, f"{number} was pulled after the block had been left")
        ahead = len(self.pulled) - len(self.results)
        if run.ordered:
            window = 2 * run.limit if run.window is None else run.window
            # Newest admitted, minus oldest undelivered.
            self.expect(number - len(self.results) <= window, f"{number} beyond the window")
        else:
            self.expect(ahead <= run.limit + run.buffer, f"{ahead} pulled ahead")
        # Where an async source lets the others wait, its slot is given to them meanwhile.
        if not run.shared or run.source in ("list", "generator"):
            self.expect(self.running < run.limit, f"{number} was pulled and cannot start")

    def source(self) -> Any:
        run = self.run
        if run.source == "list":
            return list(range(len(run.calls)))
        if run.source == "generator":
            return self._generate()
        if run.source == "iterator":
            return _Iterator(self)
        return self._generate_async()

    def _generate(self) -> Iterator[int]:
        try:
            for number in range(len(self.run.calls)):
                self.pull(number)
                yield number
            if self.run.fails:
                raise SourceFailed
        finally:
            self.source_closed = True

    async def _generate_async(self) -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        task = anyio.get_current_task().id
        try:
            for number in range(len(self.run.calls)):
                await pause(self.run.pulls[number])
                self.pull(number)
                yield number
            await pause(self.run.pulls[-1])
            if self.run.fails:
                raise SourceFailed
        finally:
            self.expect(anyio.get_current_task().id == task, "closed in another task")
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.25)
            self.expect(not self.left, "the block was left before the source was closed")
            self.source_closed = True

    async def call(self, number: int) -> int:
        self.begun.append(number)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            duration, fails = self.run.calls[number]
            await pause(duration)
            if fails:
                raise Failed(number)
            return number * 10
        finally:
            self.running -= 1
            self.expect(not self.left, "the block was left before a call was over")

    # --- the run ---

    async def play(self) -> None:
        # Virtual time: a run that hangs fails here, at once.
        with anyio.fail_after(2000):
            await self._play()

    async def _play(self) -> None:
        run = self.run
        self.limiter = limiter = Limiter(run.limit)
        async with anyio.create_task_group() as group:
            if run.shared:
                group.start_soon(self._neighbour, limiter, group.cancel_scope)
            fan = fan_out(
                self.call,
                self.source(),
                limit=limiter if run.shared else run.limit,
                buffer=run.buffer,
                ordered=run.ordered,
                window=run.window,
            )
            try:
                async with fan as results:
                    await self._consume(results)
            except SourceFailed as error:
                self.error = error
            self.left = True
            now = fan.statistics()
            self.expect(now.running == 0, "a call is counted as running after the block")
            await anyio.sleep(10)
            group.cancel_scope.cancel()
        self.expect(limiter.statistics().in_flight == 0, "a slot was not given back")

    async def _consume(self, results: FanOut[int, int]) -> None:
        while self.run.stop is None or len(self.results) < self.run.stop:
            try:
                if self.run.patience is None:
                    result = await anext(results)
                else:
                    with anyio.move_on_after(self.run.patience) as scope:
                        result = await anext(results)
                    if scope.cancelled_caught:
                        # Where the patience is 0, somebody has to let time pass.
                        await anyio.sleep(0.25)
                        continue
            except StopAsyncIteration:
                break
            self.results.append(result)
            now = results.statistics()
            self.expect(now.delivered == len(self.results), f"{now}")
            self.expect(now.done - now.waiting == now.delivered, f"{now}")
            self.expect(now.pulled == now.running + now.done, f"{now}")
            self.expect(now.held_back <= now.waiting, f"{now}")
            await pause(self.run.reads[len(self.results) - 1])

    async def _neighbour(self, limiter: Limiter, scope: anyio.CancelScope) -> None:
        while not scope.cancel_called:
            await anyio.sleep(0.5)
            async with limiter:
                self.running += 1
                self.most_running = max(self.most_running, self.running)
                await anyio.sleep(0.25)
                self.running -= 1


class _Iterator:
    """An async iterator that is no generator."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._next = 0

    def __aiter__(self) -> _Iterator:
        return self

    async def __anext__(self) -> int:
        record, number = self._record, self._next
        await pause(record.run.pulls[number])
        if number == len(record.run.calls):
            if record.run.fails:
                raise SourceFailed
            raise StopAsyncIteration
        self._next += 1
        record.pull(number)
        return number

    async def aclose(self) -> None:
        self._record.source_closed = True
