"""A picture of the figures: one field for each workload, one bar for each client."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from .runner import Outcome

__all__ = ["plot"]

_OURS, _OTHERS = "#0b6e99", "#b8b8b8"


def plot(outcomes: Sequence[Outcome], path: Path) -> bool:
    """Draw it; False where there is no matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    workloads = list(dict.fromkeys(outcome.workload for outcome in outcomes))
    columns = min(3, len(workloads))
    rows = -(-len(workloads) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(5 * columns, 2.8 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(workloads) :]:
        axis.set_visible(False)
    for axis, workload in zip(axes.flat, workloads, strict=False):
        _draw(axis, workload, [outcome for outcome in outcomes if outcome.workload == workload])
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return True


def _draw(axis: Any, workload: str, outcomes: Sequence[Outcome]) -> None:
    names = [outcome.client for outcome in outcomes]
    medians = [outcome.median for outcome in outcomes]
    least = [min(result.figure for result in outcome.runs) for outcome in outcomes]
    most = [max(result.figure for result in outcome.runs) for outcome in outcomes]
    spread = [
        [median - low for median, low in zip(medians, least, strict=True)],
        [high - median for median, high in zip(medians, most, strict=True)],
    ]
    colours = [_OURS if name.startswith("penstock") else _OTHERS for name in names]
    bars = axis.barh(names, medians, xerr=spread, color=colours, ecolor="#555555")
    axis.bar_label(bars, labels=[f" {median:.3g}" for median in medians], fontsize=8)
    axis.invert_yaxis()
    axis.set_title(f"{workload}, {outcomes[0].unit}", fontsize=10)
    axis.tick_params(labelsize=8)
    axis.margins(x=0.18)
    axis.spines[["top", "right"]].set_visible(False)
