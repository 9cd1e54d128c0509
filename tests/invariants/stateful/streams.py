"""A task with one stream: it reads, sleeps, collects, and may be cancelled in each of these."""

from __future__ import annotations

import anyio

import penstock
from penstock import CompletionStream

from ..recorded import text_of
from .caller import Caller, Cut, request_of
from .records import Call
from .script import Op, Use


class StreamCaller(Caller):
    """Plays the uses of one stream."""

    async def _block(self, use: Use, calls: list[Call]) -> None:
        (call,) = calls
        stream = self._client.chat.completions.stream(**request_of(call))
        self._close_later(use, call, stream)
        for _ in range(use.openings - 1):
            try:
                await self._within(use.opening, stream.__aenter__)
            except penstock.PenstockError as error:
                self._failed(call, error)
                return
            except Cut:
                call.withdrawn += 1
            except BaseException:
                # Cancelled just when it was open.
                with anyio.CancelScope(shield=True):
                    await stream.aclose()
                raise
            else:
                break
        try:
            async with stream:  # finds it open, or opens it
                await self._read(use, call, stream)
        except penstock.PenstockError as error:
            self._failed(call, error)
        self._keeps_partial(call, stream)

    async def _bare(self, use: Use, calls: list[Call]) -> None:
        (call,) = calls
        stream = self._client.chat.completions.stream(**request_of(call))
        self._close_later(use, call, stream)
        try:
            await self._read(use, call, stream)
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()
        self._keeps_partial(call, stream)

    def _close_later(self, use: Use, call: Call, stream: CompletionStream) -> None:
        async def close(after: float) -> None:
            await anyio.sleep(after)
            call.closed = True
            await stream.aclose()

        if use.closed_at is not None:
            self._group.start_soon(close, use.closed_at)

    async def _read(self, use: Use, call: Call, stream: CompletionStream) -> None:
        """Do what the script says, until the stream has ended."""
        calm = use.life is None and use.closed_at is None and use.openings == 1
        for op in use.ops:
            calm = calm and op.kind != "sleep" and op.patience is None
            try:
                ended = await self._do(op, call, stream)
            except penstock.PenstockError as error:
                self._failed(call, error)
                # Never a clean end after a failure.
                try:
                    await anext(stream)
                except penstock.PenstockError as again:
                    self._expect(type(again) is type(error), f"{again!r} after {error!r}")
                except StopAsyncIteration:
                    self._expect(False, f"a clean end after {error!r}")
                ended = True
            except StopAsyncIteration:
                ended = True
                call.completed = True
                call.ended = anyio.current_time()
            self._keeps_partial(call, stream)
            if ended:
                call.undisturbed = calm
                return

    def _keeps_partial(self, call: Call, stream: CompletionStream) -> None:
        partial = text_of(stream.partial).choices.get(0, "")
        # What was read ahead comes with an error only.
        same = partial == call.text if call.error is None else partial.startswith(call.text)
        self._expect(same, f"partial {partial!r}, not {call.text!r}")

    async def _do(self, op: Op, call: Call, stream: CompletionStream) -> bool:
        if op.kind == "sleep":
            await anyio.sleep(op.count / 4)
        elif op.kind == "first token":
            await self._repeated(op.patience, stream.first_token)
        elif op.kind == "collect":
            whole = await self._repeated(op.patience, stream.collect)
            text = text_of(whole).choices.get(0, "")
            self._expect(text.startswith(call.text), f"collected {text!r}, had {call.text!r}")
            call.text = text
            call.completed = True
            call.ended = anyio.current_time()
            return True
        elif op.kind == "read":
            for _ in range(op.count):
                self._add(call, await self._repeated(op.patience, stream.__anext__))
        else:
            while True:
                self._add(call, await self._repeated(op.patience, stream.__anext__))
        return False
