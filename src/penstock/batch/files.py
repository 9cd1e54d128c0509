"""The files of a job: their names, and what is done with them before the first request."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Literal

import msgspec

from .journal import Journal, read_journal
from .lines import InputFile
from .look import Look, Sorter, check, look_at
from .rows import Params
from .stops import NotStarted
from .writing import LineFile, WriteFailed

__all__ = ["Files", "Names", "Prepared", "errors_path"]


class Names(msgspec.Struct, frozen=True):
    """Names of the files; "-" is standard input or output."""

    input: str
    """Rows to ask, plain or ending in .gz."""
    output: str
    """Answers, those of earlier runs included."""
    errors: str
    """Failures of the latest run."""

    @classmethod
    def checked(cls, input: str, output: str, errors: str | None, *, ordered: bool) -> Names:
        """Return the names. NotStarted if one file is to be two, or cannot be what it is to be."""
        names = cls(input, output, errors_path(output) if errors is None else errors)
        if output.lower().endswith(".gz"):
            raise NotStarted(f"{output}: only the input may be compressed")
        if ordered and _is_special(output):
            raise NotStarted("--ordered sorts a file when all is done: OUTPUT must be one")
        for one, other in (("input", "output"), ("input", "errors"), ("output", "errors")):
            first, second = getattr(names, one), getattr(names, other)
            if _is_special(first) or _is_special(second):
                continue
            if os.path.realpath(first) == os.path.realpath(second) or _same_file(first, second):
                raise NotStarted(f"{first} cannot be both {one} and {other}")
        return names


def errors_path(output: str) -> str:
    """Return the default for failures: `out.errors.jsonl` beside `out.jsonl`."""
    if _is_special(output):
        return output
    path = PurePath(output)
    return str(path.with_name(f"{path.stem}.errors{path.suffix}")) if path.name else output


def _is_special(path: str) -> bool:
    """Return whether it is a standard stream, a device or a named pipe."""
    file = Path(path)
    return path == "-" or (file.exists() and not file.is_file() and not file.is_dir())


def _same_file(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


class Prepared(msgspec.Struct):
    """What is known before the first request."""

    answers: int
    """Answers in the output."""
    look: Look | None
    """What the input has; None for a pipe, which can be read only once."""
    sorter: Sorter | None
    """Tells what becomes of the rows of a pipe; None for a file, whose rows are known."""


class Files:
    """A job's files."""

    def __init__(self, names: Names) -> None:
        self.names: Names = names
        """What they are called."""
        self.input: InputFile = InputFile(names.input)
        """Rows."""
        self.output: LineFile = LineFile(names.output)
        """Answers."""
        self.errors: LineFile = LineFile(names.errors)
        """Failures; opened for the first one."""

    async def prepare(
        self,
        params: Params,
        *,
        changed: Literal["stop", "keep"],
        skip_invalid: bool,
        overwrite: bool,
        only_look: bool,
    ) -> Prepared:
        """Lock the output, look at both files, and make them ready.

        NotStarted if they are not as they must be; then nothing was written. With `only_look`
        nothing ever is.
        """
        for path in (self.names.output, self.names.errors):
            if not _is_special(path) and not Path(path).absolute().parent.is_dir():
                raise NotStarted(f"cannot open {path}: no such directory")
        if Path(self.names.errors).is_dir():
            raise NotStarted(f"cannot open {self.names.errors}: it is a directory")
        while True:
            existed = self.output.open(create=False)
            journal = Journal()
            if self.output.size and not overwrite:
                with self.output.reader() as file:
                    journal = await read_journal(file, self.names.output)
            sorter = Sorter(journal, params, changed)
            look: Look | None = None
            if only_look or not self.input.is_pipe:
                look = await look_at(self.input, sorter)
                check(look, journal, self.names.input, self.names.output, skip_invalid=skip_invalid)
            if only_look:
                return Prepared(journal.answers, look, None)
            if existed:
                break
            # Not before: a run that does not start leaves nothing behind.
            self.output.open(create=True)
            if not self.output.size:
                break
            self.output.close()  # another run was faster
        if overwrite:
            self.output.cut(0)
        elif journal.cut_at is not None:
            self.output.cut(journal.cut_at)
        self._drop_old_errors()
        # With a look the tables are not needed any more: a byte a row is left.
        return Prepared(journal.answers, look, sorter if look is None else None)

    def _drop_old_errors(self) -> None:
        if self.names.errors != self.names.output and not _is_special(self.names.errors):
            try:
                Path(self.names.errors).unlink(missing_ok=True)
            except OSError as error:
                raise NotStarted(f"cannot replace {self.names.errors}: {error.strerror}") from None

    def errors_file(self) -> LineFile:
        """Return the file of failures, opened."""
        if self.names.errors == self.names.output:
            return self.output
        if not self.errors.is_open:
            try:
                self.errors.open(create=True)
            except NotStarted as error:
                raise WriteFailed(str(error)) from None
        return self.errors

    def sync(self) -> None:
        """Make all lines survive a power failure. Raises WriteFailed."""
        for file in (self.output, self.errors):
            if file.is_open:
                file.sync()

    def close(self) -> None:
        """Close them. Idempotent."""
        self.input.close()
        self.output.close()
        self.errors.close()
