"""What all tasks of a run have in common: how they cancel, and how they note what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import sniffio
from anyio.abc import TaskGroup

import penstock
from penstock import AsyncClient, Limiter
from tests.support.chat import MESSAGES

from ..recorded import text_of
from .records import Call
from .script import Patience

T = TypeVar("T")
CUTS = 25  # calls that are cancelled until their caller gives up


class Cut(Exception):
    """Every call of a function was cancelled."""


class Caller:
    """Calls and cancels; `expect` is told of what is wrong at once."""

    def __init__(
        self,
        client: AsyncClient,
        limiter: Limiter,
        group: TaskGroup,
        expect: Callable[[bool, str], None],
    ) -> None:
        self._client = client
        self._limiter = limiter
        self._group = group
        self._expect = expect
        self._natively = sniffio.current_async_library() == "asyncio"

    # --- what it was told ---

    def _failed(self, call: Call, error: Exception) -> None:
        if call.error is None:
            call.error = error
            call.ended = anyio.current_time()

    def _whole(self, call: Call, whole: penstock.ChatCompletion) -> None:
        text = text_of(whole).choices.get(0, "")
        self._expect(text.startswith(call.text), f"the whole is {text!r}, not {call.text!r}")
        call.text = text
        call.completed = True
        call.ended = anyio.current_time()

    def _add(self, call: Call, chunk: penstock.ChatCompletionChunk) -> None:
        for choice in chunk.choices:
            call.text += choice.delta.content or ""

    # --- cancelling ---

    async def _repeated(self, patience: Patience | None, fn: Callable[[], Awaitable[T]]) -> T:
        """Call it until it was not cancelled."""
        for _ in range(CUTS):
            try:
                return await self._within(patience, fn)
            except Cut:
                # Cancelled by 0 seconds, no time would pass at all.
                await anyio.sleep(0.05)
        raise Cut

    async def _within(self, patience: Patience | None, fn: Callable[[], Awaitable[T]]) -> T:
        """Call it, and cancel it by a scope or natively when this takes too long."""
        if patience is None:
            return await fn()
        if not (patience.native and self._natively):
            with anyio.move_on_after(patience.seconds):
                return await fn()
            raise Cut
        task = asyncio.ensure_future(fn())
        try:
            await asyncio.wait([task], timeout=patience.seconds)
        finally:
            # Also when this task is cancelled itself.
            task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
        if task.cancelled():
            raise Cut
        return task.result()


def request_of(call: Call) -> dict[str, Any]:
    """The arguments of a call; its number is the model's name."""
    return {"model": str(call.number), "messages": MESSAGES}
