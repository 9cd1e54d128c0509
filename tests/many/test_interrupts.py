"""Where Ctrl-C may strike on trio."""

from __future__ import annotations

import asyncio

import trio.lowlevel

from penstock._many.interrupts import interruptible, protect


def protected() -> bool:
    return trio.lowlevel.currently_ki_protected()


async def of_the_users() -> bool:
    return protected()


async def inner(own: bool) -> bool:
    def fn() -> None:
        pass

    if own:
        fn.__module__ = "penstock._client.client"
    return await interruptible(fn, of_the_users())


async def outer(own: bool) -> bool:
    protect(outer)
    return await inner(own)


def test_a_protected_function_protects_what_it_calls_but_a_users_function() -> None:
    assert trio.run(outer, True)
    assert not trio.run(outer, False)


def test_on_asyncio_nothing_is_changed() -> None:
    async def main() -> None:
        protect(main)
        call = of_the_users()
        assert interruptible(of_the_users, call) is call
        await asyncio.sleep(0)
        call.close()

    asyncio.run(main())
