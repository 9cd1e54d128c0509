"""The memory of one long job over time, and how many of its rows were answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..samples import Sample
from .style import OTHERS, OURS, plain

__all__ = ["picture"]


def picture(pyplot: Any, samples: Sequence[Sample], rows: int, size: float) -> Any:
    """Return a figure of these samples of a job of so many rows, an answer having `size` bytes."""
    figure, axis = pyplot.subplots(figsize=(7, 3), layout="constrained")
    minutes = [each.seconds / 60 for each in samples]
    axis.plot(minutes, [each.mib for each in samples], color=OURS, lw=1.8)
    axis.set_xlabel("minutes", fontsize=8.5)
    axis.set_ylabel("memory, MiB", fontsize=8.5, color=OURS)
    axis.set_ylim(0, 1.25 * max(each.peak for each in samples))
    axis.set_xlim(0, minutes[-1])
    answers = axis.twinx()
    answered = [each.size / size / 1000 for each in samples]
    answers.plot(minutes, answered, color=OTHERS, lw=1.4)
    answers.set_ylabel("answers, thousands", fontsize=8.5, color="#777777")
    answers.set_ylim(0, 1.05 * rows / 1000)
    plain(axis)
    answers.tick_params(labelsize=8)
    answers.spines[["top", "left"]].set_visible(False)
    return figure
