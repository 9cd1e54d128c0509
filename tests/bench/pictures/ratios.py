"""The table of ratios: one field for each peer, one line for each workload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ratios import PEERS, Row, rows
from ..runner import Outcome
from .style import NAMES, OURS, logarithmic, plain

__all__ = ["picture"]

_MARKS = {"": ("o", "asyncio"), "uvloop": ("s", "uvloop"), "trio": ("^", "trio")}
_BUDGET = "#b91c1c"


def picture(pyplot: Any, outcomes: Sequence[Outcome]) -> Any:
    compared = [row for row in rows(outcomes) if any(r.value for r in row.to_peers.values())]
    workloads = list(dict.fromkeys(row.outcome.workload for row in compared))
    if not workloads:
        return None
    figure, axes = pyplot.subplots(
        len(PEERS) // 3,
        3,
        figsize=(10.5, 1.6 + 0.56 * len(workloads)),
        sharey=True,
        layout="constrained",
    )
    for axis, peer in zip(axes.flat, PEERS, strict=True):
        for row in compared:
            _point(axis, row, peer, workloads.index(row.outcome.workload))
        axis.set_xscale("log")
        logarithmic(axis.xaxis, within=(1.0, 2.0, 5.0))
        axis.axvline(1, color="#d4d4d8", zorder=0)
        axis.grid(axis="y", color="#eeeeee", zorder=0)
        axis.set_title(f"penstock / {NAMES[peer]}")
        plain(axis)
    axes.flat[0].set_yticks(range(len(workloads)), workloads)
    axes.flat[0].invert_yaxis()
    handles = [
        pyplot.Line2D([], [], color=OURS, marker=mark, linestyle="", label=name)
        for mark, name in _MARKS.values()
    ]
    handles.append(
        pyplot.Line2D([], [], color=_BUDGET, marker="|", linestyle="", ms=10, label="budget")
    )
    handles.append(
        pyplot.Line2D([], [], color=_BUDGET, marker="o", linestyle="", label="over its budget")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _point(axis: Any, row: Row, peer: str, at: int) -> None:
    ratio = row.to_peers[peer]
    mark, _ = _MARKS[row.outcome.client.partition("@")[2]]
    if ratio.value:
        axis.plot(
            [ratio.value], [at], mark, color=OURS if ratio.kept else _BUDGET, ms=5, alpha=0.85
        )
    if ratio.limit:
        axis.plot([ratio.limit], [at], "|", color=_BUDGET, ms=13, mew=2)
