"""What is registered in an event loop is closed when the loop ends, or at the latest at exit."""

from __future__ import annotations

import asyncio
import gc

import anyio
import pytest

from penstock._loops import event_loop
from penstock.engines import loop_end
from penstock.engines.loop_end import close_at_end, has_ended
from penstock.testing.clock import Backend
from penstock.testing.plugin import REAL_BACKENDS


class Closable:
    def __init__(self) -> None:
        self.closed_in: list[object] = []

    def close(self) -> None:
        self.closed_in.append(event_loop())


def run(backend: Backend, *closables: Closable) -> object:
    async def main() -> object:
        for each in closables:
            await close_at_end(event_loop(), each)
        return event_loop()

    return anyio.run(main, backend=backend[0], backend_options=backend[1])


@pytest.mark.parametrize("backend", REAL_BACKENDS)
def test_it_is_closed_while_the_loop_still_runs(backend: Backend) -> None:
    one, other = Closable(), Closable()
    loop = run(backend, one, other)
    assert one.closed_in == other.closed_in == [loop]
    assert has_ended(loop)
    assert loop not in loop_end._watches


@pytest.mark.parametrize("backend", REAL_BACKENDS)
def test_it_is_referred_to_weakly(backend: Backend) -> None:
    async def main() -> None:
        await close_at_end(event_loop(), Closable())
        gc.collect()
        assert len(loop_end._watches[event_loop()].closables) == 0

    anyio.run(main, backend=backend[0], backend_options=backend[1])


def test_a_loop_that_tells_nobody_is_noticed_by_the_next_one() -> None:
    ended, following = Closable(), Closable()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(close_at_end(loop, ended))
    assert not has_ended(loop)
    loop.close()
    assert has_ended(loop)
    assert ended.closed_in == []
    run(("asyncio", {}), following)
    assert ended.closed_in == [following.closed_in[0]]
    assert loop not in loop_end._watches


def test_a_loop_that_never_ends_is_given_up_at_exit() -> None:
    closable = Closable()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(close_at_end(loop, closable))
    loop_end._watches[loop].give_up()
    assert closable.closed_in == [None]
    # The generator is over: neither the collector nor the loop has anything left to do.
    gc.collect()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert closable.closed_in == [None]
