from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._many.cancellation import cancelled_by_itself, scope_cancelled, sole
from penstock.testing.clock import virtual
from penstock.testing.plugin import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

Make = Callable[[], BaseException]


def in_groups(leaves: list[BaseException], depths: list[int]) -> BaseExceptionGroup[BaseException]:
    """The exceptions in this order, each as many groups deep as its number says."""
    members: list[BaseException] = []
    for leaf, depth in zip(leaves, depths, strict=True):
        wrapped = leaf
        for _ in range(depth):
            wrapped = BaseExceptionGroup("inner", [wrapped])
        members.append(wrapped)
    return BaseExceptionGroup("outer", members)


@given(
    kinds=st.lists(st.sampled_from(["error", "cancelled", "interrupt", "exit"]), min_size=1),
    data=st.data(),
)
def test_one_stands_for_all(kinds: list[str], data: st.DataObject) -> None:
    depths = data.draw(
        st.lists(st.integers(0, 3), min_size=len(kinds), max_size=len(kinds)), label="depths"
    )
    made: dict[str, Make] = {
        "error": lambda: ValueError("x"),
        "cancelled": asyncio.CancelledError,
        "interrupt": KeyboardInterrupt,
        "exit": SystemExit,
    }

    async def main() -> None:
        leaves = [made[kind]() for kind in kinds]
        chosen = sole(in_groups(leaves, depths))
        serious = [leaf for leaf in leaves if isinstance(leaf, (KeyboardInterrupt, SystemExit))]
        cancelled = [leaf for leaf in leaves if isinstance(leaf, asyncio.CancelledError)]
        if serious:
            assert chosen is serious[0]
        elif cancelled:
            assert chosen in cancelled
        else:
            # Errors alone were taken care of where they arose.
            assert isinstance(chosen, BaseExceptionGroup)

    backend, options = virtual("asyncio")
    anyio.run(main, backend=backend, backend_options=options)


@pytest.mark.anyio
async def test_a_scope_s_cancellation_is_told_from_one_of_one_s_own() -> None:
    assert not scope_cancelled()
    assert cancelled_by_itself()
    with anyio.CancelScope() as outer:  # noqa: ASYNC100 - looked at, never delivered
        with anyio.CancelScope():  # noqa: ASYNC100
            outer.cancel()
            assert scope_cancelled()
            assert not cancelled_by_itself()
        with anyio.CancelScope(shield=True):  # noqa: ASYNC100
            # Behind a shield nobody is cancelled.
            assert not scope_cancelled()
    assert not scope_cancelled()
