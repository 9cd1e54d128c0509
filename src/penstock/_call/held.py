"""The slots of limiters that one call holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import anyio

from .._limiter.lent import lent_slots
from .._policy.estimate import used_tokens
from ..errors import APIStatusError, SlotTimeout
from ..headers import Headers
from ..types import Usage

if TYPE_CHECKING:
    from .._limiter.limiter import Limiter
    from .._limiter.slots import Slot

__all__ = ["NO_SLOTS", "HeldSlots", "find_slots"]


class HeldSlots:
    """Slots that are taken, told what happens, and given back together."""

    __slots__ = ("_slots", "metered")

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        self.metered: bool = any(slot.line.rates is not None for slot in slots)
        """True if one of the limiters counts by the minute, and is to be told what happens."""

    async def take(self, patience: float | None) -> None:
        """Wait for each slot. Cancelled, the caller releases them.

        Raises SlotTimeout after `patience` seconds (None: no limit).
        """
        with anyio.move_on_after(patience) as scope:
            for slot in self._slots:
                await slot.acquire()
        if scope.cancelled_caught:
            message = f"the limiter had no free slot for {patience:g} s (Timeouts.slot)"
            raise SlotTimeout(message + self._reason())

    def _reason(self) -> str:
        for slot in self._slots:
            line = slot.line
            seconds, reason = line.held_back(line.clock.now())
            if reason is not None:
                return f": it starts nothing for {seconds:.0f} s ({reason})"
        return ""

    def sent(self) -> None:
        """Tell the limiters that the request is sent now."""
        for slot in self._slots:
            slot.sent()

    def head_arrived(self, headers: Headers, longest: float) -> None:
        """Tell the limiters what a response says is left, for so many seconds at most."""
        for slot in self._slots:
            slot.head_arrived(headers, longest)

    def settle_tokens(self, usage: Usage | None) -> None:
        """Tell the limiters what the request has cost; without a usage the estimate stays."""
        tokens = used_tokens(usage)
        if tokens is not None:
            for slot in self._slots:
                slot.settle(tokens)

    def release(self) -> None:
        """Give the slots back. Idempotent."""
        for slot in self._slots:
            slot.release()

    def step_aside(self) -> None:
        """Give the slots back for the time until the next attempt, lent ones included."""
        for slot in self._slots:
            slot.step_aside()

    def refused(self, error: APIStatusError, pause: float | None) -> None:
        """Report an error status to the limiters, and the seconds their other users wait."""
        for slot in self._slots:
            slot.refused(error, pause)

    def succeeded(self) -> None:
        """Report a complete answer to the limiters."""
        for slot in self._slots:
            slot.succeeded()

    def withdraw(self) -> None:
        """Tell the limiters that the request was never sent."""
        for slot in self._slots:
            slot.withdraw()


NO_SLOTS: Final = HeldSlots(())
"""What calls hold that no limiter limits."""


def find_slots(limiter: Limiter | None, body: bytes) -> HeldSlots:
    """Return the slots that a request must take; NO_SLOTS if there are none.

    The limiters are that of the fan-out around the call and that of the client, once if they are
    the same. `body` is the request's, for estimates of its tokens. Raises what an estimate raises.
    """
    lent = lent_slots()
    if not lent and limiter is None:
        return NO_SLOTS
    from .._limiter.slots import Slot, request_slot  # a limiter has imported them

    lines = [slot.line for slot in lent[-1:]]
    if limiter is not None and limiter.line not in lines:
        lines.append(limiter.line)
    # Nothing is called for a limiter that does not count by the minute.
    return HeldSlots(
        tuple(Slot(line) if line.rates is None else request_slot(line, body) for line in lines)
    )
