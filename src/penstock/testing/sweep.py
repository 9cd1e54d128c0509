"""Cancel a scenario at each of its suspension points, one fresh event loop after the other.

    @asynccontextmanager
    async def scenario():
        network = MemoryNetwork(...)                 # not cancelled
        async with AsyncClient(network=network) as client:
            async def body():                        # cancelled at its n-th suspension
                async with client.chat.completions.stream(...) as stream:
                    async for chunk in stream: ...
            yield body
            # still in the loop, after the cancellation:
            assert (await client.complete(...)).choices
        assert network.open_connections == 0

    cancel_sweep("asyncio", scenario)

The first points are in the opening, the last in the clean-up.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio
import anyio.lowlevel

from .clock import virtual
from .openings import open_sockets
from .stacks import describe, suspended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable

    Body: TypeAlias = Callable[[], Awaitable[object]]
    Scenario: TypeAlias = Callable[[], AbstractAsyncContextManager[Body] | Awaitable[object]]

BackendName: TypeAlias = Literal["asyncio", "uvloop", "trio"]
"""An event loop; uvloop is asyncio's backend with uvloop."""
Mode: TypeAlias = Literal["scope", "native", "twice", "late"]
"""A way to cancel; see `cancel_sweep`."""

SCOPE: tuple[Mode, ...] = ("scope",)
ALL_MODES: tuple[Mode, ...] = ("scope", "native", "twice", "late")


def cancel_sweep(
    backend_name: BackendName,
    make_scenario: Scenario,
    *,
    check: Callable[[int, Mode], object] | None = None,
    modes: Iterable[Mode] | None = None,
    real: bool = False,
    max_points: int = 1000,
    may_swallow: bool = False,
) -> dict[Mode, int]:
    """Run the scenario again and again, until a run ends before it is cancelled.

    `make_scenario()` is called for each run. It returns a context manager that yields the
    coroutine function to cancel, or just the coroutine. Only suspensions of the body's own task
    are counted, not those of tasks that it starts. `modes` (default: all; trio has only the
    first) are ways to cancel:

    - "scope": an anyio cancel scope around the body is cancelled.
    - "native": asyncio's Task.cancel() while the body waits.
    - "twice": the same, and again at the next suspension, which usually is in the clean-up.
    - "late": Task.cancel() when the result that the body waits for has just arrived, but the
      body has not run yet. The result is lost, and anyio's shields do not help.

    `check(point, mode)` is called after each run, when its loop is closed. `real=True`: real
    time, for real sockets (with uvloop time is always real). The sweep fails if the body raises,
    leaves asyncio tasks or an unretrieved exception behind, or ends normally although it was
    cancelled natively (unless `may_swallow`); a note says at which suspension. To check
    sockets, slots and all other tasks, put `no_leaks` into the scenario.
    Returns the number of suspension points for each mode.
    """
    points: dict[Mode, int] = {}
    run = _runner(backend_name, real)
    for mode in modes or (SCOPE if backend_name == "trio" else ALL_MODES):
        if backend_name == "trio" and mode != "scope":
            raise ValueError(f"trio has no {mode} cancellation")
        for point in range(max_points + 1):
            try:
                reached = run(_one, make_scenario, mode, point, may_swallow)
                if check is not None:
                    check(point, mode)
            except BaseException as error:
                error.add_note(f"[{backend_name}: cancelled at suspension {point}, mode {mode!r}]")
                raise
            if not reached:
                points[mode] = point
                break
        else:
            raise AssertionError(
                f"more than {max_points} suspension points, mode {mode!r}: let the scenario end"
                " sooner, or raise max_points"
            )
    gc.collect()  # forgotten objects warn here, in the test that forgot them
    return points


def open_fds() -> int:
    """Return how many sockets this process has open."""
    return len(open_sockets())


class Suspensions:
    """An awaitable around another that reports each suspension just before it happens."""

    def __init__(self, awaitable: Awaitable[object], report: Callable[[int, Any], object]) -> None:
        self._awaitable = awaitable
        self._report = report
        self.count: int = 0

    def __await__(self) -> Generator[Any, Any, object]:
        inner: Any = self._awaitable.__await__()
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as stop:
                return stop.value
            number = self.count
            self.count += 1
            self._report(number, waits_for)
            value = error = None
            try:
                value = yield waits_for
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as thrown:  # noqa: BLE001, ASYNC103 -- it is the body's
                error = thrown


async def _one(make_scenario: Scenario, mode: Mode, point: int, may_swallow: bool) -> bool:
    """Run the scenario once; return whether it came as far as its cancellation."""
    made = make_scenario()
    context: AbstractAsyncContextManager[Body]
    if isinstance(made, AbstractAsyncContextManager):
        context = made
    else:
        coroutine = made
        context = nullcontext(lambda: coroutine)
    complaints: list[dict[str, Any]] = []
    on_asyncio = _loop() is not None
    if on_asyncio:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    async with context as body:
        if mode == "scope":
            reached = await _cancel_by_scope(body, point)
        else:
            reached = await _cancel_natively(body, point, mode, may_swallow)
    if on_asyncio:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        where = "\n".join(
            f"- {task.get_name()} waits at\n{describe(suspended(task.get_coro()))}" for task in left
        )
        assert not left, f"tasks left behind:\n{where}"
        assert not complaints, f"the event loop complains: {complaints}"
    return reached


async def _cancel_by_scope(body: Body, point: int) -> bool:
    with anyio.CancelScope() as scope:
        await Suspensions(body(), lambda n, _: scope.cancel() if n == point else None)
    await anyio.lowlevel.checkpoint()  # no cancellation may be left over in the task
    return scope.cancel_called


async def _cancel_natively(body: Body, point: int, mode: Mode, may_swallow: bool) -> bool:
    reached = False

    def report(n: int, waits_for: Any) -> None:
        nonlocal reached
        if n != point and not (mode == "twice" and n == point + 1):
            return
        reached = True
        if mode == "late" and asyncio.isfuture(waits_for):
            # Added before the task adds its own, so it runs first when the future is done.
            waits_for.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()

    async def main() -> None:
        await Suspensions(body(), report)

    task = asyncio.create_task(main(), name="the cancelled body")
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
        assert not reached or may_swallow, (
            "the body was cancelled, but ended normally; may_swallow=True allows that"
        )
    return reached


def _loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _runner(backend_name: BackendName, real: bool) -> Callable[..., bool]:
    if backend_name == "uvloop":
        backend, options = "asyncio", {"use_uvloop": True}
    elif real:
        backend, options = backend_name, {}
    else:
        backend, options = virtual(backend_name)

    def run(function: Callable[..., Awaitable[bool]], *args: object) -> bool:
        return anyio.run(function, *args, backend=backend, backend_options=options)

    return run
