"""The progress of a job on standard error: a redrawn line at a terminal, else plain lines."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from .output import complain

if TYPE_CHECKING:
    from ..batch import Report

__all__ = ["Progress", "plain", "summary"]

ERASE = "\r\x1b[K"


class Progress:
    """Shows reports as they come, and a last line."""

    def __init__(
        self,
        kind: Literal["auto", "bar", "lines", "none"],
        every: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if kind == "auto":
            kind = "bar" if _at_terminal() else "lines"
        self._kind = kind
        self._every = every
        self._clock = clock
        self._began: tuple[float, int] | None = None
        """When the first report came, and how much was done then."""
        self._shown_at = 0.0
        self._notice: str | None = None
        self._drawn = False

    def update(self, report: Report) -> None:
        """Show where the job is, if it is time to."""
        now = self._clock()
        if self._began is None:
            self._began = (now, report.done)
            self._shown_at = now
        if report.message != self._notice:
            self._notice = report.message
            if report.message is not None and report.stopped is None:
                self._say(report.message)
        if self._kind == "bar":
            self._draw(self._line(report, now))
        elif self._kind == "lines" and now - self._shown_at >= self._every:
            self._shown_at = now
            complain(self._line(report, now))

    def finish(self, report: Report) -> None:
        """Show the last line."""
        self.clear()
        if self._kind != "none":
            complain(summary(report))

    def clear(self) -> None:
        """Take the redrawn line away."""
        if self._drawn:
            self._drawn = False
            _put(ERASE)

    def _say(self, message: str) -> None:
        self.clear()
        if self._kind != "none":
            complain(f"penstock: {plain(message)}")

    def _draw(self, line: str) -> None:
        width = shutil.get_terminal_size().columns
        self._drawn = True
        _put(f"{ERASE}{line[: width - 1]}")

    def _line(self, report: Report, now: float) -> str:
        assert self._began is not None
        began, before = self._began
        passed = now - began
        rate = (report.done - before) / passed if passed > 0 else 0.0
        parts = [f"{report.done}/{report.rows}"]
        if report.rows:
            parts.append(f"{100 * report.done // report.rows}%")
        parts.append(f"{rate:.1f} rows/s")
        left = report.rows - report.done
        if rate > 0 and left:
            parts.append(f"{_duration(left / rate)} left")
        if report.failed:
            parts.append(f"{report.failed} failed ({_counts(report.failures)})")
        return ", ".join(parts)


def summary(report: Report) -> str:
    """Return the last line: what was done, in one run."""
    parts = [f"{report.answered} answered"]
    if report.already_done:
        parts.append(f"{report.already_done} done before")
    failed = f" ({_counts(report.failures)})" if report.failures else ""
    parts.append(f"{report.failed} failed{failed}")
    left = report.rows - report.done
    if left:
        parts.append(f"{left} not asked")
    parts.append(f"{report.retries} retries")
    tokens = _tokens(report.usage)
    if tokens:
        parts.append(tokens)
    return f"{report.rows} rows: {', '.join(parts)}, {_duration(report.seconds)}"


def plain(text: str) -> str:
    """Return a text as one line without control characters."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else "\ufffd" for char in line)


def _counts(failures: Mapping[str, int]) -> str:
    ranked = sorted(failures.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{code} {count}" for code, count in ranked)


def _tokens(usage: Mapping[str, int]) -> str:
    named = [
        f"{count} {name.removesuffix('_tokens')}"
        for name, count in usage.items()
        if name != "total_tokens"
    ]
    if not named and "total_tokens" in usage:
        named = [f"{usage['total_tokens']}"]
    return f"{' + '.join(named)} tokens" if named else ""


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02} min"


def _at_terminal() -> bool:
    if sys.stderr is None or os.environ.get("TERM") == "dumb":  # pyright: ignore[reportUnnecessaryComparison]
        return False
    return sys.stderr.isatty()


def _put(text: str) -> None:
    if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison]
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            pass
