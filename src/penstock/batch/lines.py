"""Reads files of lines: plain ones, compressed ones, and pipes.

Lines end at LF alone: a carriage return before it is blank space, and what else Unicode calls the
end of a line may stand in a JSON string.
"""

from __future__ import annotations

import os
import stat
import sys
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, cast

import anyio
import anyio.lowlevel

from .stops import NotStarted

__all__ = ["InputFile", "PipeLines", "is_blank"]

BOM = b"\xef\xbb\xbf"
_PIECE = 1 << 16  # bytes of a read from a pipe


def is_blank(line: bytes) -> bool:
    """Return whether there is nothing in a line but blank space."""
    return not line or line.isspace()


class InputFile:
    """The input by its name; "-" is standard input. NotStarted if there is no such file."""

    def __init__(self, path: str) -> None:
        self.path: str = path
        """Its name, for messages."""
        self._descriptor: int | None = None
        if path == "-":
            if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
                raise NotStarted("standard input is closed")
            self._descriptor = 0
        else:
            try:
                mode = os.stat(path).st_mode  # noqa: PTH116
                if stat.S_ISDIR(mode):
                    raise NotStarted(f"{path} is a directory")
                if not stat.S_ISREG(mode):
                    self._descriptor = os.open(path, os.O_RDONLY)
                elif not os.access(path, os.R_OK):
                    raise NotStarted(f"cannot read {path}: permission denied")
            except OSError as error:
                raise NotStarted(f"cannot read {path}: {error.strerror}") from None

    @property
    def is_pipe(self) -> bool:
        """True if it can be read only once."""
        return self._descriptor is not None

    def __iter__(self) -> Generator[bytes]:
        """Yield the lines, blank ones too, from the first. NotStarted if it cannot be read."""
        first = True
        with self._opened() as file:
            try:
                for line in file:
                    yield line.removeprefix(BOM) if first else line
                    first = False
            except (EOFError, zlib.error) as error:
                raise NotStarted(f"{self.path} is damaged: {_words(error)}") from None
            except OSError as error:
                raise NotStarted(f"cannot read {self.path}: {_words(error)}") from None

    def pipe_lines(self) -> PipeLines:
        """Return the lines of a pipe, to be read once."""
        assert self._descriptor is not None
        return PipeLines(self._descriptor)

    def close(self) -> None:
        """Close a pipe that was opened by its name. Idempotent."""
        if self._descriptor:
            os.close(self._descriptor)
            self._descriptor = None

    @contextmanager
    def _opened(self) -> Generator[IO[bytes]]:
        try:
            if self.path.lower().endswith(".gz"):
                import gzip

                opened = cast("IO[bytes]", gzip.open(self.path, "rb"))  # noqa: SIM115
            else:
                opened = open(self.path, "rb")  # noqa: PTH123, SIM115
        except OSError as error:
            raise NotStarted(f"cannot read {self.path}: {_words(error)}") from None
        with opened:
            yield opened


class PipeLines:
    """Async iterator of the lines of a pipe, which waits for them without blocking the loop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # Not of files: what stands in for a pipe may be one, and is always readable.
        self._waits = not stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._pieces: list[bytes] = []
        """The beginning of a line whose end has not come."""
        self._lines: list[bytes] = []
        """Lines that have come, the next one last."""
        self._first = True
        self._ended = False

    def __aiter__(self) -> PipeLines:
        return self

    async def __anext__(self) -> bytes:
        """Return the next line. Cancelled, it loses nothing."""
        while not self._lines:
            if self._ended:
                raise StopAsyncIteration
            await self._wait()
            self._feed(os.read(self._descriptor, _PIECE))
        line = self._lines.pop()
        if self._first:
            self._first = False
            line = line.removeprefix(BOM)
        return line

    async def _wait(self) -> None:
        if self._waits:
            try:
                await anyio.wait_readable(self._descriptor)
            except OSError:  # what an event loop cannot watch never blocks: /dev/null
                self._waits = False
        await anyio.lowlevel.checkpoint()

    def _feed(self, data: bytes) -> None:
        if not data:
            self._ended = True
            rest = b"".join(self._pieces)
            self._lines = [rest] if rest else []
            return
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join((*self._pieces, lines[0]))
            self._pieces.clear()
        self._pieces.append(rest)
        self._lines = lines[::-1]


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
