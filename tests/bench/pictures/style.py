"""One colour for each client in all pictures."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["COLOURS", "NAMES", "OTHERS", "OURS", "logarithmic", "plain"]

OURS, OTHERS = "#0b6e99", "#b8b8b8"
COLOURS = {"penstock": OURS, "openai": "#c2410c", "aiohttp": "#8a8a8a", "raw": "#3f3f46"}
NAMES = {
    "penstock": "penstock",
    "openai": "OpenAI SDK",
    "aiohttp": "aiohttp + msgspec by hand",
    "pyreqwest": "pyreqwest + msgspec",
    "wreq": "wreq + msgspec",
    "httptools": "llhttp + msgspec by hand",
    "raw": "raw sockets + msgspec",
}


def plain(axis: Any) -> None:
    """No more lines than needed."""
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def logarithmic(axis: Any, *, within: tuple[float, ...]) -> None:
    """Of an x or y axis: at these parts of each power of ten, in plain figures."""
    ticker: Any = import_module("matplotlib.ticker")
    axis.set_major_locator(ticker.LogLocator(subs=within, numticks=20))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.7g}"))
    axis.set_minor_locator(ticker.NullLocator())
