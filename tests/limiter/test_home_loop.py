"""The event loop that a limiter belongs to."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

from penstock._limiter.home_loop import HomeLoop
from penstock.testing.plugin import real_backend as anyio_backend

__all__ = ["anyio_backend"]


def run(fn: Any, anyio_backend: Any) -> Any:
    name, options = anyio_backend
    return anyio.run(fn, backend=name, backend_options=options)


def test_at_home_after_moving_in_and_not_before(anyio_backend: Any) -> None:
    home = HomeLoop()

    async def main() -> None:
        before, moved, after = home.is_here, home.move_here(in_use=False), home.is_here
        assert (before, moved, after) == (False, True, True)
        assert not home.is_elsewhere
        assert not home.move_here(in_use=True)
        seen = await anyio.to_thread.run_sync(lambda: (home.is_here, home.is_elsewhere))
        assert seen == (False, True)

    run(main, anyio_backend)
    assert not home.is_here


def test_it_moves_from_a_loop_that_has_ended_although_it_is_in_use(anyio_backend: Any) -> None:
    home = HomeLoop()

    async def move() -> None:
        assert home.move_here(in_use=True)

    for _ in range(2):
        run(move, anyio_backend)


@pytest.mark.parametrize("in_use", [True, False])
def test_it_moves_from_a_loop_that_runs_only_if_it_is_not_in_use(
    anyio_backend: Any, in_use: bool
) -> None:
    home = HomeLoop()

    async def main() -> None:
        home.move_here(in_use=False)
        await anyio.to_thread.run_sync(lambda: run(other, anyio_backend))
        assert home.is_here == in_use

    async def other() -> None:
        if in_use:
            with pytest.raises(RuntimeError, match="a Limiter of its own"):
                home.move_here(in_use=True)
        else:
            assert home.move_here(in_use=False)

    run(main, anyio_backend)


def test_what_another_thread_asks_for_runs_in_the_loop(anyio_backend: Any) -> None:
    home = HomeLoop()
    ran: list[int] = []

    async def main() -> None:
        home.move_here(in_use=False)
        done = anyio.Event()

        def there() -> None:
            ran.append(threading.get_ident())
            done.set()

        assert await anyio.to_thread.run_sync(home.run_there, there)
        await done.wait()
        assert ran == [threading.get_ident()]

    run(main, anyio_backend)
    assert not home.run_there(lambda: ran.append(0))
    assert len(ran) == 1


def test_before_it_has_a_home_nothing_runs_there() -> None:
    assert not HomeLoop().run_there(lambda: None)
