"""How costs grow, on logarithmic axes: one field for each sweep, one line for each client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..growth import SWEEPS, Curve
from .style import COLOURS, NAMES, logarithmic, plain

__all__ = ["picture"]

_UNITS = {
    "us/event": "CPU an event, µs",
    "us/request": "CPU a stream, µs",
    "ns/byte": "CPU a byte, ns",
    "KiB": "memory while it lasts, KiB",
}


def picture(pyplot: Any, curves: Sequence[Curve]) -> Any:
    sweeps = list(dict.fromkeys(curve.sweep for curve in curves))
    if not sweeps:
        return None
    figure, axes = pyplot.subplots(2, 3, figsize=(10.5, 6), squeeze=False, layout="constrained")
    for axis in axes.flat[len(sweeps) :]:
        axis.set_visible(False)
    for axis, sweep in zip(axes.flat, sweeps, strict=False):
        for curve in curves:
            if curve.sweep == sweep:
                # Less than a KiB, also nothing at all, has no other place on such an axis.
                least = 1 if curve.unit == "KiB" else 0.001
                figures = [max(point.figure, least) for point in curve.points]
                axis.plot(
                    [point.at for point in curve.points],
                    figures,
                    "o-",
                    ms=3.5,
                    lw=2 if curve.client == "penstock" else 1.2,
                    color=COLOURS.get(curve.client, "#a1a1aa"),
                    label=NAMES.get(curve.client, curve.client),
                )
                axis.set_ylabel(_UNITS[curve.unit], fontsize=8.5)
        axis.set_xscale("log")
        axis.set_yscale("log")
        logarithmic(axis.xaxis, within=(1.0,))
        low, high = axis.get_ylim()
        logarithmic(axis.yaxis, within=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,))
        axis.set_title(SWEEPS[sweep].title)
        axis.grid(color="#eeeeee")
        plain(axis)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure
