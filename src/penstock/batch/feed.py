"""Many rows at once: pulls rows as they can start, asks them, and hands out their outcomes."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import anyio

from .._limiter.limiter import Limiter
from .._limiter.slots import Slot
from .._many.feed import Feed, Source
from ..observing.events import GroupKind
from .asking import Asker
from .outcomes import Outcome
from .rows import Row
from .stops import Stop

__all__ = ["Item", "RowFeed"]

Item: TypeAlias = "tuple[int, Row] | Outcome | None"
"""A row to ask with its index; an outcome that needs no request; or a turn for the others."""

ASIDE = 16
"""Rows that may wait to be asked again while others are asked, or as many as the limiter's places,
if those are more."""


class RowFeed(Feed[Item, "Outcome | None"]):
    """Asks the rows of a source, as many at once as the limiter has places.

    Without a run to stop it is a fan-out. Once the asker has stopped, no item is pulled, and the
    last outcome is that of the last row under way.
    """

    kind: ClassVar[GroupKind] = "batch"

    def __init__(self, asker: Asker, source: Source[Item], limiter: Limiter) -> None:
        super().__init__(source, limiter)
        self._asker = asker
        self._pulling = anyio.CancelScope()
        self._delivered = 0
        self._broken: Exception | None = None
        """What no row is to blame for: the client was closed, for instance."""

    def row_waits(self) -> None:
        """Say that a row waits to be asked again: perhaps another one may be pulled."""
        self._consumed()

    async def _pull(self) -> None:
        with self._pulling:
            await super()._pull()

    def stop(self, stop: Stop) -> None:
        """Pull no further item. Where no answer can be expected, wait for no row either."""
        self._pulling.cancel()
        if stop.reason == "unavailable":
            self._post(None)

    async def next(self) -> Outcome | None:
        """Return the next outcome; None at the end. Cancelled, it loses nothing.

        Raises what is no row's failure: an error of the source, a client that is closed.
        """
        outcome = await self._next_post()
        if outcome is not None:
            self._delivered += 1
            self._consumed()
        elif self._broken is not None:
            raise self._broken
        return outcome

    def ready(self) -> list[Outcome]:
        """Take the outcomes that have come and were not taken, without waiting."""
        found = [outcome for outcome in self._posts if outcome is not None]
        self._posts.clear()
        return found

    async def _child(self, index: int, item: Item, slot: Slot) -> None:
        if isinstance(item, Outcome):
            self._post(item)
            return
        try:
            outcome = None if item is None else await self._asker.ask(*item, slot)
        except Exception as error:  # noqa: BLE001 - raised by the next read
            self._broken = error
            self._pulling.cancel()
            self._post(None)
            return
        slot.release()
        if outcome is None:
            self._delivered += 1
        else:
            self._post(outcome)

    def _may_pull(self) -> bool:
        # A row that waits to be asked again has no place. Did it keep the next one from being
        # pulled, a row that the server always refuses would end the job.
        aside = min(self._asker.waiting, max(self._limiter.line.limit.maximum, ASIDE))
        return self._pulled - self._delivered - aside < self._limit
