"""How many live streams one core carries: a bar for each client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..capacity import RATE, Capacity
from .style import OTHERS, OURS, plain

__all__ = ["picture"]


def picture(pyplot: Any, capacities: Sequence[Capacity]) -> Any:
    if not capacities:
        return None
    figure, axis = pyplot.subplots(figsize=(7, 0.9 + 0.4 * len(capacities)), layout="constrained")
    bars = axis.barh(
        [capacity.client for capacity in capacities],
        [capacity.streams for capacity in capacities],
        color=[OURS if c.client.startswith("penstock") else OTHERS for c in capacities],
    )
    # Where the client did not fall behind, it would carry more.
    labels = [f" {'' if c.ended_by == 'behind' else '≥ '}{c.streams}" for c in capacities]
    axis.bar_label(bars, labels=labels, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set_title(f"live streams of {RATE} events/s that one core carries")
    plain(axis)
    return figure
