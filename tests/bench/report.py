"""The figures beside the budgets of DESIGN, section 6."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from .runner import Outcome
from .workloads import WORKLOADS

__all__ = ["environment", "figures_table", "ratio_table"]

PEERS = ("openai", "aiohttp", "raw")


class Budget(msgspec.Struct, frozen=True):
    """What a workload may cost, as a ratio to each peer's, or on top of another workload."""

    openai: float | None = None
    aiohttp: float | None = None
    raw: float | None = None
    extra: float | None = None
    """Microseconds an event more than the workload it is based on."""
    at_most: float | None = None
    """In the workload's own unit."""
    memory: float | None = None
    """The process's memory as a ratio to the OpenAI SDK's."""


BUDGETS = {
    "paced": Budget(openai=1 / 8, aiohttp=1.3, raw=1.6),
    "drain": Budget(openai=1 / 20, aiohttp=1.6, raw=2.5),
    "fan": Budget(openai=1 / 8, aiohttp=1.6, raw=3),
    # DESIGN has none for TLS. Decrypting costs all the same, so these are easier to keep.
    "paced-tls": Budget(aiohttp=1.3, raw=1.6),
    "drain-tls": Budget(aiohttp=1.6, raw=2.5),
    "paced-merged": Budget(extra=2),
    "drain-merged": Budget(extra=2),
    "fan-merged": Budget(extra=2),
    "create": Budget(openai=1 / 3),
    "models": Budget(openai=1 / 3),
    "idle": Budget(at_most=40),
    "import": Budget(openai=1 / 5, memory=1 / 2),
}


class Figures:
    """The medians, by workload and client."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self._by_key = {(outcome.workload, outcome.client): outcome for outcome in outcomes}

    def median(self, workload: str, client: str) -> float | None:
        outcome = self._by_key.get((workload, client))
        return None if outcome is None else outcome.median

    def ratio(self, workload: str, client: str, peer: str) -> float | None:
        ours, theirs = self.median(workload, client), self.median(workload, peer)
        return ours / theirs if ours is not None and theirs else None

    def memory_ratio(self, workload: str, client: str, peer: str) -> float | None:
        ours, theirs = self._memory(workload, client), self._memory(workload, peer)
        return ours / theirs if ours and theirs else None

    def _memory(self, workload: str, client: str) -> float:
        outcome = self._by_key.get((workload, client))
        if outcome is None or not outcome.runs:
            return 0.0
        peaks = sorted(result.peak for result in outcome.runs)
        return peaks[len(peaks) // 2]

    def extra(self, workload: str, client: str) -> float | None:
        """Microseconds an event more than the workload below."""
        ours = self._by_key.get((workload, client))
        base = self.median(WORKLOADS[workload].base, client)
        if ours is None or base is None:
            return None
        run = ours.runs[0]
        per_event = 1 if ours.unit == "us/event" else run.events / run.requests
        return (ours.median - base) / per_event


def ratio_table(outcomes: Sequence[Outcome]) -> str:
    """penstock against its peers, with the budget behind each ratio; ! where it is not kept."""
    figures = Figures(outcomes)
    names = ("work", "client", "figure", "/ openai", "/ aiohttp", "/ raw", "")
    rows = [names, *_rows(outcomes, figures)]
    return _aligned(rows)


def _rows(outcomes: Sequence[Outcome], figures: Figures) -> Iterator[tuple[str, ...]]:
    for outcome in outcomes:
        workload, client = outcome.workload, outcome.client
        if client.partition("@")[0] != "penstock":
            continue
        budget = BUDGETS.get(workload, Budget())
        ratios = [
            _cell(figures.ratio(workload, client, _peer(figures, workload, client, peer)), limit)
            for peer, limit in zip(PEERS, (budget.openai, budget.aiohttp, budget.raw), strict=True)
        ]
        others = (
            ("on top, us/event", figures.extra(workload, client), budget.extra),
            ("absolute", figures.median(workload, client), budget.at_most),
            ("memory / openai", figures.memory_ratio(workload, client, "openai"), budget.memory),
        )
        remarks = [f"{name}: {_cell(value, limit)}" for name, value, limit in others if limit]
        yield (workload, client, f"{outcome.median:.2f} {outcome.unit}", *ratios, *remarks)


def _peer(figures: Figures, workload: str, client: str, peer: str) -> str:
    """The peer on the same event loop, if it was measured there."""
    loop = client.partition("@")[2]
    same = f"{peer}@{loop}"
    return same if loop and figures.median(workload, same) is not None else peer


def _cell(value: float | None, limit: float | None) -> str:
    if value is None:
        return "-"
    if limit is None:
        return f"{value:.3f}"
    return f"{value:.3f} {'<=' if value <= limit else '! >'} {limit:.3g}"


def figures_table(outcomes: Sequence[Outcome]) -> str:
    """Everything that was measured."""
    rows: list[tuple[str, ...]] = [
        ("work", "client", "median", "least", "most", "", "wall s", "peak MiB", "connections")
    ]
    for outcome in outcomes:
        figures = sorted(result.figure for result in outcome.runs)
        walls = sorted(result.wall for result in outcome.runs)
        peaks = sorted(result.peak for result in outcome.runs)
        middle = len(figures) // 2
        rows.append(
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
    return _aligned(rows)


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*_padded(rows), strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in _padded(rows)
    )


def _padded(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    length = max(map(len, rows))
    return [(*row, *[""] * (length - len(row))) for row in rows]


def environment() -> dict[str, Any]:
    """The machine and the versions, without which no figure means anything."""
    versions: dict[str, str] = {}
    for package in (
        *("penstock", "httpcore", "h11", "msgspec", "anyio", "trio", "uvloop"),
        *("openai", "httpx", "httpx2", "aiohttp"),
    ):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": sys.version,
        "platform": platform.platform(),
        "processor": _processor(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
