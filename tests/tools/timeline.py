"""Draws the spans of one trace as a timeline, in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["drawing"]

WIDTH, LABELS, ROW, TOP = 900, 300, 34, 40
STYLE = """
    text { font: 14px sans-serif; fill: #1f2933 } .small { font-size: 12px; fill: #52606d }
    .line { stroke: #9aa5b1; stroke-width: 1 } .bar { fill: #3a6cab } .mark { fill: #d08a2e }
    @media (prefers-color-scheme: dark) {
      text { fill: #e4e7eb } .small { fill: #9aa5b1 } .bar { fill: #5b8fd0 }
    }
"""


def drawing(spans: Sequence[ReadableSpan]) -> str:
    """Return a picture: a bar for each span below its parent's, a mark for each event."""
    rows = _rows(spans)
    first = min(span.start_time or 0 for span in spans)
    whole = max(span.end_time or 0 for span in spans) - first

    def x(time: int) -> float:
        return round(LABELS + (WIDTH - LABELS - 20) * (time - first) / whole, 1)

    parts: list[str] = []
    for step in range(5):
        time = first + whole * step // 4
        parts.append(
            f'<path class="line" d="M{x(time)} {TOP - 8} V{TOP + ROW * len(rows)}"/>'
            f'<text class="small" x="{x(time)}" y="20" text-anchor="middle">'
            f"{whole * step / 4e9:.2f} s</text>"
        )
    for number, (depth, span) in enumerate(rows):
        y = TOP + ROW * number
        start, end = x(span.start_time or 0), x(span.end_time or 0)
        parts.append(
            f'<text x="{8 + 18 * depth}" y="{y + 19}">{escape(span.name)}</text>'
            f'<rect class="bar" x="{start}" y="{y + 6}" width="{max(2, round(end - start, 1))}" '
            f'height="18" rx="3"/>'
        )
        for event in span.events:
            title = escape(event.name.removeprefix("penstock.").replace("_", " "))
            parts.append(
                f'<circle class="mark" cx="{x(event.timestamp)}" cy="{y + 15}" r="5">'
                f"<title>{title}</title></circle>"
            )
    height = TOP + ROW * len(rows) + 8
    inner = "\n  ".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n'
        f"  <title>Spans of a trace</title>\n  <style>{STYLE}  </style>\n  {inner}\n</svg>\n"
    )


def _rows(spans: Sequence[ReadableSpan]) -> list[tuple[int, ReadableSpan]]:
    """Return the spans in the order of their starts, each below its parent, with its depth."""
    known = {span.context.span_id for span in spans if span.context}
    below: dict[int | None, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        parent = span.parent.span_id if span.parent else None
        below.setdefault(parent if parent in known else None, []).append(span)
    rows: list[tuple[int, ReadableSpan]] = []

    def add(parent: int | None, depth: int) -> None:
        for span in below.get(parent, ()):
            rows.append((depth, span))
            if span.context:
                add(span.context.span_id, depth + 1)

    add(None, 0)
    return rows
