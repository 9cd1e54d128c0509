"""Writes a report into the page on speed: tables into its marked blocks, pictures beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tests.support.page_blocks import renew, table

from .capacity import Capacity
from .environment import Environment
from .growth import CLIENTS, SWEEPS, Curve
from .instructions import BY_REQUEST, RECORD, ROWS
from .pictures import FOR_THE_PAGE, draw
from .pictures.style import NAMES
from .ratios import PEERS, Ratio, Row, rows
from .report import Report
from .runner import Outcome

__all__ = ["publish"]

PAGE = "speed.md"
UNITS = {
    "us/event": "µs an event",
    "us/request": "µs a request",
    "KiB/stream": "KiB a stream",
    "ms": "ms",
}
TITLES = {
    "paced": "100 streams of 50 tokens/s, each in a segment of its own",
    "drain": "one stream of 20 000 events, as fast as it is taken",
    "fan": "500 streams of 20 events, all at once",
    "paced-tls": "the paced streams over TLS",
    "drain-tls": "the long stream over TLS",
    "paced-merged": "the paced streams through `fan_out_chunks`",
    "drain-merged": "the long stream through `fan_out_chunks`",
    "fan-merged": "the 500 streams through `fan_out_chunks`",
    "collect": "the long stream by `collect()`",
    "complete": "the long stream by `client.complete`",
    "create": "an answer that does not stream",
    "models": "`models.list()`, 40 models",
    "idle": "an open stream with nothing to say",
    "stalled": "an open stream that sends, and that nobody reads",
    "import": "import and first client",
}
ENDED = {
    "": "nothing: it was not tried with more",
    "behind": "the client fell behind",
    "late": "the server was late",
    "failed": "streams failed",
}


def publish(report: Report, folder: Path) -> None:
    """Replace what the report has parts for, and leave the rest of the page."""
    renew(folder / PAGE, "bench", _blocks(report))
    draw(report, folder, FOR_THE_PAGE)


def _blocks(report: Report) -> Iterator[tuple[str, str]]:
    yield "environment", _environment(report.environment, report.scale)
    if report.outcomes:
        yield "ratios", _ratios(list(rows(report.outcomes)))
        yield "others", _others(list(rows(report.outcomes)))
    grown = [curve for curve in report.growth if curve.sweep != "held"]
    if grown:
        yield "growth", _growth(grown)
    held = [curve for curve in report.growth if curve.sweep == "held"]
    if held:
        yield "held", _held(held)
    if report.capacity:
        yield "capacity", _capacity(report.capacity)
    yield "instructions", _instructions()


def _environment(environment: Environment, scale: str) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    size = "" if scale == "full" else f" A {scale} run: too short to be quoted."
    return (
        f"{environment.processor}, {environment.cores} cores shared with others; "
        f"{environment.platform}; {environment.python}; {versions}; "
        f"revision {environment.revision or 'unknown'}.{size}"
    )


def _ratios(found: Sequence[Row]) -> str:
    lines = [["work", "loop", "CPU", *(f"/ {NAMES[peer]}" for peer in PEERS)]]
    for row in found:
        if any(ratio.value is not None for ratio in row.to_peers.values()):
            lines.append(
                [
                    _work(row.outcome),
                    _loop(row.outcome),
                    _figure(row.outcome),
                    *map(_cell, row.to_peers.values()),
                ]
            )
    return table(lines)


def _others(found: Sequence[Row]) -> str:
    lines = [["work", "loop", "figure", "budget"]]
    for row in found:
        for name, ratio in row.others.items():
            lines.append([_work(row.outcome), _loop(row.outcome), name, _cell(ratio)])
    return table(lines)


def _growth(curves: Sequence[Curve]) -> str:
    lines = [["along", *(NAMES[client] for client in CLIENTS)]]
    for sweep in dict.fromkeys(curve.sweep for curve in curves):
        cells = {
            curve.client: f"{multiple:.2f} (to {curve.points[-1].at})"
            for curve in curves
            if curve.sweep == sweep and (multiple := curve.last_tenfold()) is not None
        }
        lines.append([SWEEPS[sweep].title, *(cells.get(client, "-") for client in CLIENTS)])
    return table(lines)


def _held(curves: Sequence[Curve]) -> str:
    lines = [["", *(f"{point.at} events" for point in curves[0].points)]]
    for curve in curves:
        cells = [f"{point.figure:.0f} KiB, {point.cpu:.1f} µs an event" for point in curve.points]
        lines.append([NAMES.get(curve.client, curve.client), *cells])
    return table(lines)


def _capacity(capacities: Sequence[Capacity]) -> str:
    lines = [["client", "live streams", "p99 delay", "of its core", "what ended the search"]]
    for capacity in capacities:
        best = next(
            (
                step
                for step in capacity.steps
                if step.streams == capacity.streams and step.verdict == "held"
            ),
            None,
        )
        more = "" if capacity.ended_by == "behind" else "at least "
        lines.append(
            [
                capacity.client,
                f"{more}{capacity.streams}",
                f"{best.delay:.0f} ms" if best else "-",
                f"{best.share:.0%}" if best else "-",
                ENDED[capacity.ended_by],
            ]
        )
    return table(lines)


def _instructions() -> str:
    records = msgspec.json.decode(RECORD.read_bytes(), type=dict[str, dict[str, int]])
    lines = [["", *records]]
    for row in ROWS:
        per = "a request" if row in BY_REQUEST else "an event"
        cells = [f"{counts[row]:,} {per}" if row in counts else "-" for counts in records.values()]
        lines.append([row, *cells])
    return table(lines)


def _work(outcome: Outcome) -> str:
    return TITLES[outcome.workload]


def _loop(outcome: Outcome) -> str:
    return outcome.client.partition("@")[2] or "asyncio"


def _figure(outcome: Outcome) -> str:
    return f"{outcome.median:.3g} {UNITS[outcome.unit]}"


def _cell(ratio: Ratio) -> str:
    if ratio.value is None:
        return "-"
    value = f"{ratio.value:.2f}"
    if ratio.limit is None:
        return value
    return f"{value} (≤ {ratio.limit:.3g})" if ratio.kept else f"**{value}** (> {ratio.limit:.3g})"
