"""The states of a slot as one table.

    free ──QUEUE──> queued ──TAKE──> held ──LEND──> lent ──RELEASE──> leaving
     ^                │              │  <──RETURN───┘                    │
     ├────WITHDRAW────┘              │                                   │
     ├────RELEASE────────────────────┤                                   │
     │                               PARK                                │
     ├────RELEASE──────── parked <───┘                                   │
     └────RETURN─────────────────────────────────────────────────────────┘

A parked slot leads on by RETURN or TAKE to held, and by QUEUE to queued. A slot that takes the
place of a lender does not queue: TAKE leads from free to held as well. RELEASE does not change
free, queued and leaving.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["TRANSITIONS", "SlotEvent", "SlotState"]


class SlotState(enum.StrEnum):
    """What a slot has of its limiter."""

    FREE = enum.auto()
    """Nothing: not yet acquired, or released."""
    QUEUED = enum.auto()
    """Nothing yet: its task waits in line."""
    HELD = enum.auto()
    """A place, which no other slot uses."""
    LENT = enum.auto()
    """A place, which another slot uses."""
    LEAVING = enum.auto()
    """A place, which another slot uses; its holder has released it."""
    PARKED = enum.auto()
    """Nothing: it gave its place up for a while. A place taken on its behalf comes home."""


class SlotEvent(enum.StrEnum):
    """What happens to a slot."""

    QUEUE = enum.auto()
    WITHDRAW = enum.auto()
    TAKE = enum.auto()
    LEND = enum.auto()
    RETURN = enum.auto()
    PARK = enum.auto()
    RELEASE = enum.auto()


TRANSITIONS: Final[dict[tuple[SlotState, SlotEvent], SlotState]] = {
    # acquiring
    (SlotState.FREE, SlotEvent.QUEUE): SlotState.QUEUED,
    (SlotState.PARKED, SlotEvent.QUEUE): SlotState.QUEUED,
    (SlotState.QUEUED, SlotEvent.WITHDRAW): SlotState.FREE,
    (SlotState.QUEUED, SlotEvent.TAKE): SlotState.HELD,
    (SlotState.FREE, SlotEvent.TAKE): SlotState.HELD,
    (SlotState.PARKED, SlotEvent.TAKE): SlotState.HELD,
    # lending
    (SlotState.HELD, SlotEvent.LEND): SlotState.LENT,
    (SlotState.LENT, SlotEvent.RETURN): SlotState.HELD,
    (SlotState.LEAVING, SlotEvent.RETURN): SlotState.FREE,
    # giving way
    (SlotState.HELD, SlotEvent.PARK): SlotState.PARKED,
    (SlotState.PARKED, SlotEvent.RETURN): SlotState.HELD,
    # the end
    (SlotState.HELD, SlotEvent.RELEASE): SlotState.FREE,
    (SlotState.PARKED, SlotEvent.RELEASE): SlotState.FREE,
    (SlotState.LENT, SlotEvent.RELEASE): SlotState.LEAVING,
    # released again, or before there is a place
    (SlotState.FREE, SlotEvent.RELEASE): SlotState.FREE,
    (SlotState.QUEUED, SlotEvent.RELEASE): SlotState.QUEUED,
    (SlotState.LEAVING, SlotEvent.RELEASE): SlotState.LEAVING,
}
