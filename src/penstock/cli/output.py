"""Standard output and standard error, which may be closed, or on a full disk."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["OutputError", "complain", "drop_output", "write", "writing"]


class OutputError(Exception):
    """Standard output cannot be written; the message says why."""


@contextmanager
def writing() -> Generator[None]:
    """Raise OutputError if the block cannot write, but BrokenPipeError if the reader left."""
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


def write(text: str) -> None:
    """Write to standard output at once. Raises as `writing`."""
    with writing():
        sys.stdout.write(text)


def complain(text: str) -> None:
    """Write a line to standard error, if that is possible."""
    # print(file=None) would write to standard output.
    if sys.stderr is not None:
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def drop_output() -> None:
    """Send unwritten output nowhere; Python would try to write it once more at exit."""
    if sys.stdout is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
