"""Appends whole lines to a file: one `write` each, taken back when it fails."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
from contextlib import suppress
from typing import IO, Any

from .stops import NotStarted

_locks: Any
try:
    import fcntl

    _locks = fcntl
except ImportError:  # pragma: no cover - Windows
    _locks = None

__all__ = ["LineFile", "WriteFailed"]


class WriteFailed(Exception):
    """A line could not be written; the message says where and why."""

    def __init__(self, message: str, *, reader_left: bool = False) -> None:
        super().__init__(message)
        self.reader_left: bool = reader_left
        """True if it was a pipe whose reader has left."""


class LineFile:
    """A file that lines are appended to; "-" is standard output."""

    def __init__(self, path: str) -> None:
        self.path: str = path
        """Its name, for messages."""
        self._descriptor: int | None = None
        self._is_regular = False
        self._end = 0

    @property
    def is_open(self) -> bool:
        """True once it has been opened."""
        return self._descriptor is not None

    def open(self, *, create: bool) -> bool:
        """Open and lock it; return False if there is none and none is to be created.

        NotStarted if it cannot be opened, or another run has it.
        """
        if self.path == "-":
            if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
                raise NotStarted("cannot write to standard output: it is closed")
            self._descriptor = 1
        else:
            flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0)
            try:
                if os.path.exists(self.path) and not os.path.isfile(self.path):  # noqa: PTH110, PTH113
                    flags = os.O_WRONLY  # a device, or a named pipe
                self._descriptor = os.open(self.path, flags, 0o666)
            except FileNotFoundError:
                if create:
                    raise NotStarted(f"cannot open {self.path}: no such directory") from None
                return False
            except OSError as error:
                raise NotStarted(f"cannot open {self.path}: {error.strerror}") from None
        try:
            status = os.fstat(self._descriptor)
        except OSError as error:
            self._descriptor = None
            raise NotStarted(f"cannot write to {self._name}: {error.strerror}") from None
        self._is_regular = stat.S_ISREG(status.st_mode)
        self._end = status.st_size
        if self.path == "-" and self._is_regular:
            with suppress(OSError):
                self._end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        if self.path != "-" and self._is_regular:
            self._lock()
        return True

    def _lock(self) -> None:
        assert self._descriptor is not None
        if _locks is None:  # pragma: no cover - Windows
            return
        try:
            _locks.flock(self._descriptor, _locks.LOCK_EX | _locks.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise NotStarted(f"{self.path} is in use by another run") from None
        except OSError:
            return  # a file system without locks
        # A run that has just ended may have put a sorted file in its place.
        try:
            is_named_so = os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))  # noqa: PTH116
        except OSError:
            is_named_so = False
        if not is_named_so:
            self.close()
            raise NotStarted(f"{self.path} is in use by another run")

    @property
    def size(self) -> int:
        """Bytes in it, all whole lines; 0 for what is not a regular file."""
        return self._end if self._is_regular else 0

    def reader(self) -> IO[bytes]:
        """Open the file for reading as well."""
        return open(self.path, "rb")  # noqa: PTH123

    def cut(self, at: int) -> None:
        """Drop everything from there on. Raises WriteFailed."""
        assert self._descriptor is not None
        if self._is_regular and at < self._end:
            try:
                os.ftruncate(self._descriptor, at)
            except OSError as error:
                raise self._failed(error) from None
            self._end = at

    def append(self, line: bytes) -> None:
        """Write a whole line, or nothing. Raises WriteFailed."""
        descriptor = self._descriptor
        assert descriptor is not None
        rest: bytes | memoryview = line
        while True:
            try:
                written = os.write(descriptor, rest)
            except BlockingIOError:  # a pipe that somebody has set so
                select.select([], [descriptor], [])
                continue
            except OSError as error:
                self._take_back()
                raise self._failed(error) from None
            if written == len(rest):
                break
            rest = memoryview(rest)[written:]
        self._end += len(line)

    def _take_back(self) -> None:
        """Drop what came of a line that could not be written to its end."""
        assert self._descriptor is not None
        if self._is_regular:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
                os.lseek(self._descriptor, self._end, os.SEEK_SET)

    def sync(self) -> None:
        """Make the lines survive a power failure. Raises WriteFailed."""
        assert self._descriptor is not None
        if self._is_regular:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EROFS, errno.ENOTSUP):
                    raise self._failed(error) from None

    def close(self) -> None:
        """Close it, which ends the lock. Standard output stays open. Idempotent."""
        if self._descriptor not in (None, 1):
            with suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = None

    @property
    def _name(self) -> str:
        return "standard output" if self.path == "-" else self.path

    def _failed(self, error: OSError) -> WriteFailed:
        left = isinstance(error, BrokenPipeError)
        return WriteFailed(
            f"the reader of {self._name} has left"
            if left
            else f"cannot write to {self._name}: {error.strerror}",
            reader_left=left,
        )
