"""All figures: one field for each workload, one bar for each client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..runner import Outcome
from .style import OTHERS, OURS, plain

__all__ = ["picture"]


def picture(pyplot: Any, outcomes: Sequence[Outcome]) -> Any:
    workloads = list(dict.fromkeys(outcome.workload for outcome in outcomes))
    if not workloads:
        return None
    columns = min(3, len(workloads))
    rows = -(-len(workloads) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(5 * columns, 2.8 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(workloads) :]:
        axis.set_visible(False)
    for axis, workload in zip(axes.flat, workloads, strict=False):
        _field(axis, workload, [outcome for outcome in outcomes if outcome.workload == workload])
    return figure


def _field(axis: Any, workload: str, outcomes: Sequence[Outcome]) -> None:
    names = [outcome.client for outcome in outcomes]
    medians = [outcome.median for outcome in outcomes]
    least = [min(result.figure for result in outcome.runs) for outcome in outcomes]
    most = [max(result.figure for result in outcome.runs) for outcome in outcomes]
    spread = [
        [median - low for median, low in zip(medians, least, strict=True)],
        [high - median for median, high in zip(medians, most, strict=True)],
    ]
    colours = [OURS if name.startswith("penstock") else OTHERS for name in names]
    bars = axis.barh(names, medians, xerr=spread, color=colours, ecolor="#555555")
    axis.bar_label(bars, labels=[f" {median:.3g}" for median in medians], fontsize=8)
    axis.invert_yaxis()
    axis.set_title(f"{workload}, {outcomes[0].unit}")
    axis.margins(x=0.18)
    plain(axis)
