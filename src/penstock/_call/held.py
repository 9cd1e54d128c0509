"""What one call holds: slots of limiters, and an exchange on a connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from .._http.exchange import Exchange
from .._limiter.limiter import Limiter
from .._limiter.slots import Slot, lent_slots, request_slot
from .._policy.estimate import used_tokens
from ..errors import APIStatusError, SlotTimeout
from ..headers import Headers
from ..types import Usage

if TYPE_CHECKING:
    from .._policy.servers import Place

__all__ = ["Held"]


class Held:
    """Slots and an exchange, given back together on every way out of a call."""

    __slots__ = ("_slots", "exchange", "metered", "place")

    def __init__(self) -> None:
        self._slots: Sequence[Slot] | None = None
        """None until the first attempt has asked whose limits count."""
        self.metered: bool = False
        """True if one of the limiters counts by the minute, and is to be told what happens."""
        self.place: Place | None = None
        """The current attempt's place at one of several servers."""
        self.exchange: Exchange | None = None
        """The exchange of the current attempt, or of the last one."""

    def finds_slots(self, limiter: Limiter | None, body: bytes) -> bool:
        """Return True if there is a slot to wait for.

        The limiters are that of the fan-out around the call and that of the client, once if
        they are the same. `body` is the request's, for estimates of its tokens. Raises what an
        estimate raises.
        """
        if self._slots is None:
            lent = lent_slots()
            if not lent and limiter is None:
                self._slots = ()
                return False
            lines = [slot.line for slot in lent[-1:]]
            if limiter is not None and limiter.line not in lines:
                lines.append(limiter.line)
            # Nothing is called for a limiter that does not count by the minute.
            self._slots = tuple(
                Slot(line) if line.rates is None else request_slot(line, body) for line in lines
            )
            for line in lines:
                self.metered = self.metered or line.rates is not None
        return bool(self._slots)

    async def take_slots(self, patience: float | None) -> None:
        """Wait for each slot that was found. Cancelled, the caller releases them.

        Raises SlotTimeout after `patience` seconds (None: no limit).
        """
        with anyio.move_on_after(patience) as scope:
            for slot in self._slots or ():
                await slot.acquire()
        if scope.cancelled_caught:
            message = f"the limiter had no free slot for {patience:g} s (Timeouts.slot)"
            raise SlotTimeout(message + self._reason())

    def _reason(self) -> str:
        for slot in self._slots or ():
            line = slot.line
            seconds, reason = line.held_back(line.clock.now())
            if reason is not None:
                return f": it starts nothing for {seconds:.0f} s ({reason})"
        return ""

    def forget_slots(self) -> None:
        """Ask anew whose limits count, as the next attempt goes to another server."""
        self._slots = None

    def sent(self) -> None:
        """Tell the limiters that the request is sent now."""
        for slot in self._slots or ():
            slot.sent()

    def head_arrived(self, headers: Headers, longest: float) -> None:
        """Tell the limiters what a response says is left, for so many seconds at most."""
        for slot in self._slots or ():
            slot.head_arrived(headers, longest)

    def settle_tokens(self, usage: Usage | None) -> None:
        """Tell the limiters what the request has cost; without a usage the estimate stays."""
        tokens = used_tokens(usage)
        if tokens is not None:
            for slot in self._slots or ():
                slot.settle(tokens)

    def release_slots(self) -> None:
        """Give the slots back, and the place at the server. Idempotent."""
        for slot in self._slots or ():
            slot.release()
        if self.place is not None:
            self.place.release()
            self.place = None

    def step_aside(self) -> None:
        """Give the slots back for the time until the next attempt, lent ones included."""
        for slot in self._slots or ():
            slot.step_aside()

    def refused(self, error: APIStatusError, pause: float | None) -> None:
        """Report an error status to the limiters, and the seconds their other users wait."""
        for slot in self._slots or ():
            slot.refused(error, pause)

    def succeeded(self) -> None:
        """Report a complete answer to the limiters."""
        for slot in self._slots or ():
            slot.succeeded()

    async def aclose(self, *, drain: bool = False) -> None:
        """Give back slots and connection; the latter is reused only after a whole answer.

        `drain` waits a moment for an end of the body that is on its way. Idempotent. Cancelled,
        the connection is closed all the same.
        """
        if self.metered:
            self._withdraw_unsent()
        self.release_slots()
        if self.exchange is not None:
            await self.exchange.aclose(drain=drain)

    def close(self) -> None:
        """Give everything back now, cutting the connection, without waiting."""
        if self.exchange is not None:
            self.exchange.close()
        if self.metered:
            self._withdraw_unsent()
        self.release_slots()

    def _withdraw_unsent(self) -> None:
        if self.exchange is not None and not self.exchange.began:
            for slot in self._slots or ():
                slot.withdraw()
