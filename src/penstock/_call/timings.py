"""When what happened to a stream, and the statistics made of it."""

from __future__ import annotations

import math
import random
from array import array

from ..observing.figures import Gaps, StreamStatistics, Waits
from .gaps import FOLD, GapHistogram
from .phases import Phases

__all__ = ["Timings"]


class Timings:
    """Points in time of one stream, on the event loop's clock; NaN until they come."""

    __slots__ = (
        "_fold_at",
        "_kept",
        "first_byte",
        "first_token",
        "last_read",
        "waited",
        "waited_for_first_token",
        "waited_for_head",
    )

    def __init__(self) -> None:
        self.first_byte: float = math.nan
        self.first_token: float = math.nan
        self.last_read: float = math.nan
        self.waited_for_head: float = 0.0
        """Seconds waited for the network until the head was in."""
        self.waited: float = 0.0
        """The same until the last read."""
        self.waited_for_first_token: float = math.nan
        """The same until the read that brought the first token; NaN until then."""
        self._kept: tuple[GapHistogram | None, array[float]] = (None, array("d"))
        """When tokens came: the gaps by now, and since then. It is replaced whole, and no
        histogram in it changes, since other threads ask for statistics at any time."""
        # Streams that began together do not fold together, which would hold up all of them
        # (at 700 streams, half of their tokens by 35 ms).
        self._fold_at = random.randint(1, FOLD)

    def token_taken(self, now: float, waited: float) -> None:
        """Note a read that brought one token, not the first one."""
        self.last_read = now
        self.waited = waited
        arrivals = self._kept[1]
        arrivals.append(now)
        if len(arrivals) > self._fold_at:
            self._fold()

    def _fold(self) -> None:
        """Keep the gaps of the arrivals by now, and the last one for the next gap."""
        histogram, arrivals = self._kept
        self._kept = (_folded(histogram, arrivals), arrivals[-1:])
        self._fold_at = FOLD

    def token_arrived(self, now: float, *, again: bool = False) -> bool:
        """Note a read that brought a token; return whether it is the first one.

        `again`: it may have been noted, as it is decoded in parts.
        """
        arrivals = self._kept[1]
        if again and arrivals and arrivals[-1] == now:
            return False
        arrivals.append(now)
        if len(arrivals) == 1:
            self.first_token = now
            self.waited_for_first_token = self.waited
            return True
        if len(arrivals) > self._fold_at:
            self._fold()
        return False

    def gaps(self) -> Gaps:
        """Return the figures of the times between tokens. Any thread may ask."""
        return _folded(*self._kept).gaps()

    def statistics(
        self,
        *,
        attempts: int,
        events: int,
        bytes: int,
        started: float,
        headers_at: float,
        phases: Phases,
        until: float | None = None,
    ) -> StreamStatistics:
        """What is known by now. The waits count until the last read, or `until`."""

        def since_start(at: float) -> float | None:
            return None if math.isnan(at) else at - started

        away = self.last_read - headers_at - (self.waited - self.waited_for_head)
        return StreamStatistics(
            attempts=attempts,
            events=events,
            bytes=bytes,
            headers=since_start(headers_at),
            first_byte=since_start(self.first_byte),
            first_token=since_start(self.first_token),
            total=since_start(self.last_read),
            # Never below 0, whatever the rounding: that of many waits may add up.
            waited_for_consumer=away if away > 0 else 0.0,
            gaps=self.gaps(),
            waits=self._waits(phases.spent(self.last_read if until is None else until)),
        )

    def _waits(self, spent: Phases) -> Waits:
        # Rounding must not make a part negative, nor the parts more than the whole.
        network = min(spent.body, max(0.0, self.waited - self.waited_for_head))
        first = network
        if not math.isnan(self.waited_for_first_token):
            first = min(network, max(0.0, self.waited_for_first_token - self.waited_for_head))
        return Waits(
            slot=spent.slot,
            connection=spent.connection,
            head=spent.head,
            backoff=spent.backoff,
            first_token=first,
            tokens=network - first,
            consumer=spent.body - network,
        )


def _folded(histogram: GapHistogram | None, arrivals: array[float]) -> GapHistogram:
    folded = GapHistogram() if histogram is None else histogram.copy()
    folded.fold(arrivals)
    return folded
