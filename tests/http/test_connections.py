from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import math
import weakref

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._http.connections import KEEPALIVE, Connections
from penstock._http.dial import Dialer, NewScope
from penstock._http.network import ConnectionFailed, Deadline, NetworkStream
from penstock._loops import in_trio
from penstock.testing.clock import VirtualLoop
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.sweep import BackendName, cancel_sweep

from .deadlines import NoDeadline
from .pipe import ORIGIN, Pipe, PipeDialer
from .sockets import run_virtual

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


def pool(*pipes: Pipe) -> tuple[Connections, PipeDialer]:
    dialer = PipeDialer(*pipes)
    return Connections(dialer), dialer


async def test_without_an_idle_one_it_dials() -> None:
    one, two = Pipe(), Pipe()
    connections, dialer = pool(one, two)
    assert await connections.acquire(NoDeadline()) == (one, False)
    assert await connections.acquire(NoDeadline()) == (two, False)
    assert dialer.dials == 2


async def test_last_in_first_out() -> None:
    pipes = [Pipe() for _ in range(3)]
    connections, dialer = pool()
    for pipe in pipes:
        connections.release(pipe)
    for pipe in reversed(pipes):
        assert await connections.acquire(NoDeadline()) == (pipe, True)
    assert dialer.dials == 0


@pytest.mark.parametrize("fault", ["bytes", "end", "closed", "other loop"])
async def test_an_unclean_one_is_dropped(fault: str) -> None:
    good, bad = Pipe(), Pipe()
    connections, dialer = pool()
    connections.release(good)
    connections.release(bad)
    if fault == "bytes":
        bad.feed(b"unasked")
    elif fault == "end":
        bad.feed(b"")
    elif fault == "closed":
        bad.close()
    else:
        bad.foreign = True
    assert await connections.acquire(NoDeadline()) == (good, True)
    assert bad.closed
    assert bad.acloses == [0]
    assert dialer.dials == 0


async def test_an_expired_one_is_dropped() -> None:
    old, fresh = Pipe(), Pipe()
    connections, dialer = pool(fresh)
    connections.release(old)
    await anyio.sleep(KEEPALIVE)
    assert await connections.acquire(NoDeadline()) == (fresh, False)
    assert old.closed
    assert dialer.dials == 1


async def test_just_before_its_expiry_it_is_used() -> None:
    old = Pipe()
    connections, _ = pool()
    connections.release(old)
    await anyio.sleep(KEEPALIVE - 0.001)
    assert await connections.acquire(NoDeadline()) == (old, True)


@pytest.mark.parametrize("how", ["acquire", "fresh", "count"])
async def test_all_expired_ones_are_closed_by_the_next_use(how: str) -> None:
    old, young, new = [Pipe() for _ in range(3)], Pipe(), Pipe()
    connections, _ = pool(new)
    for pipe in old:
        connections.release(pipe)
    await anyio.sleep(KEEPALIVE - 1)
    connections.release(young)
    await anyio.sleep(1)
    if how == "acquire":
        assert await connections.acquire(NoDeadline()) == (young, True)
    elif how == "fresh":
        assert await connections.acquire(NoDeadline(), fresh=True) == (new, False)
    else:
        assert connections.count_idle() == 1
    assert all(pipe.closed for pipe in old)
    assert not young.closed


async def test_expired_ones_are_closed_while_nothing_happens(anyio_backend_name: str) -> None:
    if anyio_backend_name == "trio":
        return  # in real time: see test_trio_timer
    old = [Pipe() for _ in range(3)]
    connections, _ = pool()
    for number, pipe in enumerate(old):
        await anyio.sleep(min(number, 1))
        connections.release(pipe)
    for number in range(3):
        await anyio.sleep(KEEPALIVE - 2 if not number else 1)
        await anyio.sleep(0.02)
        assert sum(pipe.closed for pipe in old) == number + 1
    assert not has_timer(connections)
    assert connections.count_idle() == 0


def test_they_are_closed_in_a_loop_that_anyio_did_not_start() -> None:
    # Its callbacks run in no task, so that nothing but the loop itself tells of it.
    pipe = Pipe()

    async def main() -> None:
        connections, _ = pool()
        asyncio.get_running_loop().call_soon(connections.release, pipe)
        await asyncio.sleep(KEEPALIVE + 1)
        assert pipe.closed
        assert not has_timer(connections)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main(), context=contextvars.Context())


async def test_the_timer_is_no_task_and_ends_with_the_client() -> None:
    before = living_tasks()
    connections, _ = pool()
    connections.release(Pipe())
    connections.release(Pipe())
    assert has_timer(connections)
    assert living_tasks() == before
    await connections.aclose(None)
    assert not has_timer(connections)
    assert living_tasks() == before


async def test_without_an_end_there_is_no_timer() -> None:
    connections = Connections(PipeDialer(), keepalive=math.inf)
    connections.release(Pipe())
    assert not has_timer(connections)
    assert connections.count_idle() == 1


def has_timer(connections: Connections) -> bool:
    return connections._timer is not None


def living_tasks() -> int:
    """Return the number of tasks, those of the system included."""
    if in_trio():
        import trio

        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


async def test_the_timer_does_not_keep_a_client() -> None:
    connections, _ = pool()
    connections.release(Pipe())
    gone = weakref.ref(connections)
    del connections
    gc.collect()
    assert gone() is None
    await anyio.sleep(2 * KEEPALIVE)


async def test_a_timer_of_a_loop_that_has_gone_is_replaced() -> None:
    connections, _ = pool()
    pipe = Pipe()
    if in_trio():
        return
    other = asyncio.new_event_loop()
    connections._timer = other.call_later(1000, print)
    connections._home = other
    other.close()
    connections.release(pipe)
    await anyio.sleep(KEEPALIVE + 0.1)
    assert pipe.closed


async def test_at_most_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock._http.connections.MAX_IDLE", 3)
    pipes = [Pipe() for _ in range(5)]
    connections, _ = pool()
    for pipe in pipes:
        connections.release(pipe)
    assert [pipe.closed for pipe in pipes] == [True, True, False, False, False]
    assert connections.count_idle() == 3


async def test_nothing_is_kept_without_keepalive() -> None:
    connections = Connections(PipeDialer(), keepalive=0)
    pipe = Pipe()
    connections.release(pipe)
    assert pipe.closed
    assert connections.count_idle() == 0


async def test_counting_closes_what_is_not_usable() -> None:
    good, bad = Pipe(), Pipe()
    connections, _ = pool()
    connections.release(good)
    connections.release(bad)
    bad.feed(b"")
    assert connections.count_idle() == 1
    assert bad.closed
    assert not good.closed
    assert await connections.acquire(NoDeadline()) == (good, True)


async def test_one_that_only_aclose_closes_is_closed_by_the_next_use() -> None:
    class Slow(Pipe):
        closes_at_once = False

    old, new = [Slow(), Slow()], Pipe()
    connections, _ = pool(new)
    connections.release(old[0])
    await anyio.sleep(KEEPALIVE + 1)
    connections.count_idle()
    assert await connections.acquire(NoDeadline()) == (new, False)
    assert old[0].acloses == [0]
    connections.release(old[1])
    await anyio.sleep(KEEPALIVE + 1)
    connections.count_idle()
    await connections.aclose(1.0)
    assert old[1].acloses == [1.0]
    # Nor is one that comes back after the end forgotten.
    late = Slow()
    connections.release(late)
    await connections.aclose(1.0)
    assert late.acloses == [1.0]


@pytest.mark.parametrize("where", ["nowhere", "in another loop", "in another thread's"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_counting_from_elsewhere_closes_nothing(backend: str, where: str) -> None:
    connections, _ = pool()
    pipe = Pipe()

    async def count() -> int:
        return connections.count_idle()

    async def main() -> None:
        connections.release(pipe)
        if where == "in another thread's":
            count_there = functools.partial(anyio.run, count, backend="asyncio")
            assert await anyio.to_thread.run_sync(count_there) == 1

    anyio.run(main, backend=backend)
    if where == "nowhere":
        assert connections.count_idle() == 1
    elif where == "in another loop":
        assert anyio.run(count) == 1
    assert not pipe.closed
    assert connections.close() == 1


async def test_a_fresh_one_leaves_the_idle_ones() -> None:
    idle, new = Pipe(), Pipe()
    connections, dialer = pool(new)
    connections.release(idle)
    assert await connections.acquire(NoDeadline(), fresh=True) == (new, False)
    assert dialer.dials == 1
    assert await connections.acquire(NoDeadline()) == (idle, True)


async def test_a_failed_dial_takes_nothing() -> None:
    class Failing(Dialer):
        async def dial(
            self, deadline: Deadline, new_scope: NewScope = anyio.CancelScope
        ) -> NetworkStream:
            raise ConnectionFailed("no")

    connections = Connections(Failing(ORIGIN))
    with pytest.raises(ConnectionFailed):
        await connections.acquire(NoDeadline())


async def test_discard_cuts_and_waits_for_the_end() -> None:
    connections, _ = pool()
    pipe = Pipe()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await connections.discard(pipe)
    assert pipe.closed
    assert pipe.acloses == [0]


# --- closing ---


async def test_closing_closes_the_idle_ones_gracefully() -> None:
    pipes = [Pipe() for _ in range(3)]
    connections, _ = pool()
    for pipe in pipes:
        connections.release(pipe)
    await connections.aclose(2.0)
    assert [pipe.acloses for pipe in pipes] == [[2.0]] * 3
    await connections.aclose(2.0)
    assert [pipe.acloses for pipe in pipes] == [[2.0]] * 3


async def test_after_closing_none_is_kept() -> None:
    connections, _ = pool()
    await connections.aclose(1.0)
    pipe = Pipe()
    connections.release(pipe)
    assert pipe.closed
    assert connections.closed


class Slow(Pipe):
    """One that does not come to an end by itself."""

    async def aclose(self, grace: float | None) -> None:
        self.acloses.append(grace)
        await anyio.sleep_forever()


async def test_closing_ends_at_the_bound() -> None:
    pipes = [Slow(), Slow(), Pipe()]
    connections, _ = pool()
    for pipe in pipes:
        connections.release(pipe)
    before = anyio.current_time()
    await connections.aclose(2.0)
    assert anyio.current_time() == before + 2.0
    assert all(pipe.closed for pipe in pipes)


async def test_a_cancelled_close_has_closed_them_all() -> None:
    pipes = [Slow(), Slow()]
    connections, _ = pool()
    for pipe in pipes:
        connections.release(pipe)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await connections.aclose(1.0)
    assert all(pipe.closed for pipe in pipes)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_sweep_of_cancellations_leaves_none_open(backend: BackendName) -> None:
    made: list[Pipe] = []
    dialers: list[PipeDialer] = []

    async def body() -> None:
        idle = [Pipe() for _ in range(4)]
        fresh = [Pipe(), Pipe()]
        made[:] = [*idle, *fresh]
        connections, dialer = pool(*fresh)
        dialers[:] = [dialer]
        for pipe in idle:
            connections.release(pipe)
        idle[3].feed(b"unclean")
        taken: list[NetworkStream] = []
        try:
            for _ in range(4):
                stream, _ = await connections.acquire(NoDeadline())
                taken.append(stream)
            for stream in taken[:2]:
                await connections.discard(stream)
        finally:
            for stream in taken:
                stream.close()
            await connections.aclose(1.0)  # noqa: ASYNC102

    def check(point: int, mode: str) -> None:
        assert all(pipe.closed or pipe in dialers[0].pipes for pipe in made)

    points = cancel_sweep(backend, body, check=check)
    assert min(points.values()) >= 4


async def test_close_cuts_the_idle_ones() -> None:
    pipes = [Pipe(), Pipe()]
    connections, _ = pool()
    for pipe in pipes:
        connections.release(pipe)
    assert connections.close() == 2
    assert connections.close() == 0
    assert all(pipe.closed for pipe in pipes)


# --- all together ---

steps = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "release", "discard", "spoil"]),
        st.integers(0, 9),
        st.integers(0, 20),
    ),
    max_size=40,
)


@given(steps)
def test_any_history_hands_out_the_newest_that_is_fit(steps: list[tuple[str, int, int]]) -> None:
    async def main() -> None:
        dialer = PipeDialer()
        connections = Connections(dialer)
        idle: list[tuple[float, Pipe]] = []
        taken: list[Pipe] = []
        for action, which, pause in steps:
            await anyio.sleep(pause)
            now = anyio.current_time()
            if action == "acquire":
                fit = [p for at, p in idle if at > now - KEEPALIVE and p.is_clean()]
                fresh = Pipe()
                dialer.pipes.append(fresh)
                stream, reused = await connections.acquire(NoDeadline())
                assert isinstance(stream, Pipe)
                assert stream is (fit[-1] if fit else fresh)
                assert reused == bool(fit)
                assert not stream.closed
                dialer.pipes.clear()
                idle = [(at, p) for at, p in idle if p is not stream and not p.closed]
                taken.append(stream)
            elif action == "spoil" and idle:
                idle[which % len(idle)][1].feed(b"x")
            elif action in ("release", "discard") and taken:
                stream = taken.pop(which % len(taken))
                if action == "release":
                    connections.release(stream)
                    idle.append((now, stream))
                else:
                    await connections.discard(stream)
                    assert stream.closed
        assert not any(stream.closed for stream in taken)
        await connections.aclose(1.0)
        assert all(stream.closed for _, stream in idle)

    run_virtual("asyncio", main)
