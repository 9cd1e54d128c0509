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
        self._kept: tuple[GapHistogram | None, array[float]] | None = None
        """When tokens came: the gaps by now, and since then; None until the second token. It is
        replaced whole, and no histogram in it changes, since other threads ask for statistics at
        any time."""
        # Streams that began together do not fold together, which would hold up all of them
        # (at 700 streams, half of their tokens by 35 ms).
        self._fold_at = random.randint(1, FOLD)

    def token_taken(self, now: float, waited: float) -> None:
        """Note a read that brought one token, not the first one."""
        self.last_read = now
        self.waited = waited
        kept = self._kept
        if kept is None:
            self._kept = kept = (None, array("d", (self.first_token,)))
        histogram, arrivals = kept
        arrivals.append(now)
        if len(arrivals) > self._fold_at:
            # The last one is kept for the next gap.
            self._kept = (_folded(histogram, arrivals), arrivals[-1:])
            self._fold_at = FOLD

    def token_arrived(self, now: float, *, again: bool = False) -> bool:
        """Note a read that brought a token; return whether it is the first one.

        `again`: it may have been noted, as it is decoded in parts.
        """
        if math.isnan(self.first_token):
            self.first_token = now
            self.waited_for_first_token = self.waited
            return True
        latest = self.first_token if self._kept is None else self._kept[1][-1]
        if not (again and latest == now):
            self.token_taken(now, self.waited)
        return False

    def gaps(self) -> Gaps:
        """Return the figures of the times between tokens. Any thread may ask."""
        kept = self._kept  # a local, as the loop's thread may replace it
        return (GapHistogram() if kept is None else _folded(*kept)).gaps()

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
