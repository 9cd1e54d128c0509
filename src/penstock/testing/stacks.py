"""Stacks of the code that did something: cheap to remember, short to read."""

from __future__ import annotations

import inspect
import linecache
import sysconfig
from pathlib import Path
from types import CodeType
from typing import Any, TypeAlias

Stack: TypeAlias = "tuple[tuple[CodeType, int], ...]"
"""Code and line of each frame, the innermost first."""

_DEPTH = 64
_LIBRARIES = tuple(
    {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
)
_PENSTOCK = str(Path(__file__).parents[1])


def capture(skip: int = 1) -> Stack:
    """Remember the caller's stack, without the innermost `skip` frames."""
    frame = inspect.currentframe()
    for _ in range(skip):
        frame = frame.f_back if frame is not None else None
    frames: list[tuple[CodeType, int]] = []
    while frame is not None and len(frames) < _DEPTH:
        frames.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(frames)


def suspended(coroutine: Any) -> Stack:
    """Return where a coroutine waits, through all that it awaits."""
    frames: list[tuple[CodeType, int]] = []
    while coroutine is not None:
        for kind in ("cr", "gi", "ag"):  # coroutines, and both kinds of generators
            frame = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                frames.append((frame.f_code, frame.f_lineno))
                inner = "gi_yieldfrom" if kind == "gi" else f"{kind}_await"
                coroutine = getattr(coroutine, inner)
                break
        else:
            break
    return tuple(reversed(frames))


def describe(stack: Stack, *, frames: int = 5) -> str:
    """Return the innermost frames of the user's own code, as a traceback shows them.

    Where there are none, those of the libraries.
    """
    own = [frame for frame in stack if not _in_library(frame[0].co_filename)] or list(stack)
    lines: list[str] = []
    for code, line in reversed(own[:frames]):
        lines.append(f'  File "{code.co_filename}", line {line}, in {code.co_name}')
        if text := linecache.getline(code.co_filename, line).strip():
            lines.append(f"    {text}")
    return "\n".join(lines)


def _in_library(filename: str) -> bool:
    return filename.startswith((*_LIBRARIES, _PENSTOCK, "<"))
