"""Everything that one run of the bench gives, and its tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .capacity import Capacity
from .environment import Environment
from .growth import SWEEPS, Curve
from .ratios import PEERS, Ratio, rows
from .runner import Outcome
from .workloads import WORKLOADS

__all__ = ["Report", "tables"]


class Report(msgspec.Struct):
    """Parts that were not measured are empty."""

    environment: Environment
    scale: str
    outcomes: list[Outcome] = []
    growth: list[Curve] = []
    capacity: list[Capacity] = []

    def take_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """In place of all there was of their workloads, which are only compared in one run."""
        new = {outcome.workload for outcome in outcomes}
        kept = [outcome for outcome in self.outcomes if outcome.workload not in new]
        self.outcomes = [*kept, *outcomes]
        self.outcomes.sort(key=lambda outcome: list(WORKLOADS).index(outcome.workload))

    def take_curves(self, curves: Sequence[Curve]) -> None:
        """In place of all there was of their sweeps."""
        new = {curve.sweep for curve in curves}
        self.growth = [*(curve for curve in self.growth if curve.sweep not in new), *curves]
        self.growth.sort(key=lambda curve: list(SWEEPS).index(curve.sweep))


def tables(report: Report) -> str:
    """All of it as text."""
    parts: list[str] = []
    if report.outcomes:
        parts += [figures_table(report.outcomes), ratio_table(report.outcomes)]
    if report.growth:
        parts.append(growth_table(report.growth))
    if report.capacity:
        parts.append(capacity_table(report.capacity))
    return "\n\n".join(parts)


def ratio_table(outcomes: Sequence[Outcome]) -> str:
    """penstock against its peers, with the budget behind each ratio; ! where it is not kept."""
    lines: list[tuple[str, ...]] = [
        ("work", "client", "figure", *(f"/ {peer}" for peer in PEERS), "")
    ]
    for row in rows(outcomes):
        remarks = [f"{name}: {_cell(ratio)}" for name, ratio in row.others.items()]
        lines.append(
            (
                row.outcome.workload,
                row.outcome.client,
                f"{row.outcome.median:.2f} {row.outcome.unit}",
                *map(_cell, row.to_peers.values()),
                *remarks,
            )
        )
    return _aligned(lines)


def _cell(ratio: Ratio) -> str:
    if ratio.value is None:
        return "-"
    if ratio.limit is None:
        return f"{ratio.value:.3f}"
    return f"{ratio.value:.3f} {'<=' if ratio.kept else '! >'} {ratio.limit:.3g}"


def figures_table(outcomes: Sequence[Outcome]) -> str:
    """Every outcome."""
    lines: list[tuple[str, ...]] = [
        ("work", "client", "median", "least", "most", "", "wall s", "peak MiB", "connections")
    ]
    for outcome in outcomes:
        figures = sorted(result.figure for result in outcome.runs)
        walls = sorted(result.wall for result in outcome.runs)
        peaks = sorted(result.peak for result in outcome.runs)
        middle = len(figures) // 2
        lines.append(
            (
                outcome.workload,
                outcome.client,
                f"{outcome.median:.2f}",
                f"{figures[0]:.2f}",
                f"{figures[-1]:.2f}",
                outcome.unit,
                f"{walls[middle]:.3f}",
                f"{peaks[middle] / 2**20:.1f}",
                str(outcome.runs[middle].connections),
            )
        )
    return _aligned(lines)


def growth_table(curves: Sequence[Curve]) -> str:
    """Every point of every curve."""
    lines: list[tuple[str, ...]] = [("growth", "client", "unit", "at: figure", "")]
    for curve in curves:
        points = [f"{point.at}: {point.figure:.3g}" for point in curve.points]
        lines.append((curve.sweep, curve.client, curve.unit, *points))
    return _aligned(lines)


def capacity_table(capacities: Sequence[Capacity]) -> str:
    """How far each client came, and what ended it."""
    lines: list[tuple[str, ...]] = [("capacity", "live streams", "ended by", "steps")]
    for capacity in capacities:
        steps = [
            f"{step.streams}: {step.delay:.0f} ms{'' if step.verdict == 'held' else '!'}"
            for step in capacity.steps
        ]
        lines.append((capacity.client, str(capacity.streams), capacity.ended_by, *steps))
    return _aligned(lines)


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    length = max(map(len, lines))
    padded = [(*line, *[""] * (length - len(line))) for line in lines]
    widths = [max(map(len, column)) for column in zip(*padded, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in padded
    )
