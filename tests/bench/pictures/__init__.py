"""The pictures of a report, as SVG."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ..report import Report
from . import bars, capacity, growth, ratios

__all__ = ["ALL", "FOR_THE_PAGE", "draw", "ready", "save"]


FOR_THE_PAGE = ("speed-ratios", "speed-growth", "speed-capacity")
ALL = ("speed-figures", *FOR_THE_PAGE)


def draw(report: Report, folder: Path, names: Sequence[str] = ALL) -> None:
    """Draw those that the report has the parts for. Nothing without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    pyplot = ready()
    for name in names:
        figure = _picture(name, pyplot, report)
        if figure is not None:
            save(pyplot, figure, folder / f"{name}.svg")


def ready() -> Any:
    """Return matplotlib's pyplot, set up for all pictures."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("agg")
    matplotlib.rcParams.update(
        {
            "svg.fonttype": "none",  # small files
            "svg.hashsalt": "bench",  # the same for the same figures
            "font.sans-serif": ["DejaVu Sans", "Verdana"],
            "font.size": 9,
            "axes.titlesize": 9.5,
        }
    )
    return import_module("matplotlib.pyplot")


def save(pyplot: Any, figure: Any, path: Path) -> None:
    """Write a figure as SVG."""
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _picture(name: str, pyplot: Any, report: Report) -> Any:
    """The figure; None if there is nothing for it."""
    match name:
        case "speed-figures":
            return bars.picture(pyplot, report.outcomes)
        case "speed-ratios":
            return ratios.picture(pyplot, report.outcomes)
        case "speed-growth":
            return growth.picture(pyplot, report.growth)
        case _:
            return capacity.picture(pyplot, report.capacity)
