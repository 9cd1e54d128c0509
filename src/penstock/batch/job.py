"""`run_files`: a job from a file to a file, begun or gone on with."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from time import monotonic
from typing import Any, Literal

import anyio

from .._limiter.limiter import Limiter
from .._many.feed import Source
from .asking import Asker, OnCut, Policy
from .feed import Item, RowFeed
from .files import Files, Names, Prepared
from .lines import PipeLines, is_blank
from .look import ASK, CHANGED, DONE, DUPLICATE, Look, Sorter
from .ordering import positions_of, sort_output
from .outcomes import Outcome
from .report import Report
from .rows import InvalidRow, Params, row_of_line
from .run import client_of, limiter_of, refused_row
from .stops import Stop
from .words import WordMap, word_of
from .writing import WriteFailed

__all__ = ["Job", "run_files"]

_TURN = 256  # rows that are skipped between turns for the other tasks
_TICK = 0.2  # seconds between reports of progress


class Job:
    """One run over files; `run` is called once."""

    def __init__(
        self,
        client: Any,
        input: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        errors: str | os.PathLike[str] | None = None,
        limit: int | Limiter = 64,
        max_retries: int = 5,
        patience: float = 300.0,
        on_cut: OnCut = "retry",
        stream: bool = False,
        params: Mapping[str, Any] | None = None,
        skip_invalid: bool = False,
        changed: Literal["stop", "keep"] = "stop",
        overwrite: bool = False,
        max_rows: int | None = None,
        ordered: bool = False,
        check: bool = False,
        on_progress: Callable[[Report], None] | None = None,
    ) -> None:
        if changed not in ("stop", "keep"):
            raise ValueError(f'changed is {changed!r}: give "stop" or "keep"')
        if max_rows is not None and max_rows < 1:
            raise ValueError(f"max_rows is {max_rows!r}: give a positive whole number")
        self._client = client_of(client)
        self._limiter = limiter_of(limit)
        self._policy = Policy(max_retries, patience, on_cut, stream)
        self._params = Params(params)
        names = Names.checked(
            os.fspath(input),
            os.fspath(output),
            None if errors is None else os.fspath(errors),
            ordered=ordered,
        )
        self._files = Files(names)
        self._skip_invalid = skip_invalid
        self._changed: Literal["stop", "keep"] = changed
        self._overwrite = overwrite
        self._max_rows = max_rows
        self._ordered = ordered
        self._only_look = check
        self._on_progress = on_progress
        self._began = monotonic()
        self._scope = anyio.CancelScope()
        self._asker: Asker | None = None
        self.is_asking: bool = False
        """True while rows are asked: after the look at the files, before they are sorted."""
        self._feed: RowFeed | None = None
        self._stop: Stop | None = None
        self._rows = 0
        self._already_done = 0
        self._answered = 0
        self._failures: dict[str, int] = {}
        self._positions: WordMap | None = None
        """Of the rows of a pipe, which cannot be read again."""
        self.reader_left: bool = False
        """True if the run ended because the reader of its output left."""

    # --- from outside ---

    def interrupt(self, message: str, grace: float) -> None:
        """Ask no further row, and wait for those under way, so many seconds at most."""
        if self._asker is None or not self.is_asking:
            # The files are looked at or sorted: nothing is under way that could be lost.
            self._stop = self._stop or Stop("interrupted", message)
            self._scope.cancel()
            return
        self._asker.stop("interrupted", message)
        if grace > 0:
            self._scope.deadline = min(self._scope.deadline, anyio.current_time() + grace)
        else:
            self._scope.cancel()

    def report(self) -> Report:
        """Return the numbers of this moment."""
        asker = self._asker
        stop = self._stop or (None if asker is None else asker.stopped)
        notice = None if asker is None else asker.notice
        return Report(
            rows=self._rows,
            already_done=self._already_done,
            answered=self._answered,
            failed=sum(self._failures.values()),
            failures=dict(self._failures),
            requests=0 if asker is None else asker.requests,
            retries=0 if asker is None else asker.retries,
            usage={} if asker is None else dict(asker.tokens),
            seconds=round(monotonic() - self._began, 3),
            stopped=None if stop is None else stop.reason,
            message=notice if stop is None else stop.message,
        )

    # --- the run ---

    async def run(self) -> Report:
        """Do it all. NotStarted if nothing could be done; else what was done."""
        try:
            prepared = None
            with self._scope:
                prepared = await self._files.prepare(
                    self._params,
                    changed=self._changed,
                    skip_invalid=self._skip_invalid,
                    overwrite=self._overwrite,
                    only_look=self._only_look,
                )
            if prepared is not None:
                await self._go_on(prepared)
        except WriteFailed as error:
            self._write_failed(error)
        finally:
            self._files.close()
        return self.report()

    async def _go_on(self, prepared: Prepared) -> None:
        look = prepared.look
        if look is not None:
            self._rows, self._already_done = look.rows, look.done
        if self._only_look:
            return
        if look is None or look.rows > look.done:
            await self._ask(prepared)
        self._files.sync()
        if self._ordered and self.report().stopped is None:
            self._scope = anyio.CancelScope()
            with self._scope:
                positions = self._positions
                if positions is None:
                    positions = await positions_of(self._files.input)
                await sort_output(self._files.names.output, positions)

    async def _ask(self, prepared: Prepared) -> None:
        look = prepared.look
        self._scope = anyio.CancelScope()
        self._asker = asker = Asker(
            self._client,
            self._limiter,
            self._policy,
            on_stop=self._stop_pulling,
            on_wait=self._pull_more,
            ever_answered=prepared.answers > 0,
        )
        source: Source[Item]
        if look is None:
            assert prepared.sorter is not None
            if self._ordered:
                self._positions = WordMap()
            source = _PipeRows(self, prepared.sorter)
        else:
            source = self._file_rows(look)
        self._feed = feed = RowFeed(asker, source, self._limiter)
        # Raised below, without a group.
        failures: list[Exception] = []
        if self._on_progress is not None:
            self._on_progress(self.report())
        self.is_asking = True
        async with anyio.create_task_group() as group:
            if self._on_progress is not None:
                group.start_soon(self._tick, self._on_progress, failures)
            try:
                await self._write_all(feed)
            except Exception as error:  # noqa: BLE001
                failures.append(error)
            group.cancel_scope.cancel()
        self.is_asking = False
        if failures and isinstance(failures[0], WriteFailed):
            self._write_failed(failures[0])
        elif failures:
            raise failures[0]
        if self._on_progress is not None:
            self._on_progress(self.report())

    def _stop_pulling(self, stop: Stop) -> None:
        if self._feed is not None:
            self._feed.stop(stop)

    def _pull_more(self) -> None:
        if self._feed is not None:
            self._feed.row_waits()

    async def _write_all(self, feed: RowFeed) -> None:
        with self._scope:
            async with feed:
                try:
                    while (outcome := await feed.next()) is not None:
                        self._write(outcome)
                except anyio.get_cancelled_exc_class():
                    for outcome in feed.ready():
                        self._write(outcome)
                    raise

    async def _tick(self, on_progress: Callable[[Report], None], failures: list[Exception]) -> None:
        try:
            while True:
                await anyio.sleep(_TICK)
                on_progress(self.report())
        except Exception as error:  # noqa: BLE001
            failures.append(error)
            self._scope.cancel()

    def _write(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self._files.output.append(outcome.to_line())
            self._answered += 1
        else:
            self._files.errors_file().append(outcome.to_line())
            code = outcome.error.code
            self._failures[code] = self._failures.get(code, 0) + 1

    def _write_failed(self, error: WriteFailed) -> None:
        self._stop = Stop("output", str(error))
        self.reader_left = error.reader_left

    # --- the rows ---

    def _file_rows(self, look: Look) -> Generator[Item]:
        """Yield the rows that are to be asked, and those that cannot be."""
        index, asked, skipped = -1, 0, 0
        for line in self._files.input:
            if is_blank(line):
                continue
            index += 1
            if index >= look.rows:
                return  # a line that was added meanwhile, and was not looked at
            fate = look.fates[index]
            if fate == DONE:
                skipped += 1
                if not skipped % _TURN:
                    yield None
                continue
            if fate == ASK:
                if asked == self._max_rows:
                    return
                asked += 1
            yield self.item(index, line, fate)

    def item(self, index: int, line: bytes, fate: int) -> Item:
        """Return a row that is to be asked, or the outcome of one that cannot be."""
        try:
            row = row_of_line(line, self._params)
        except InvalidRow as error:
            return refused_row(index, error, line)
        if fate == DUPLICATE:
            duplicate = InvalidRow(
                "the custom_id is that of an earlier row", custom_id=row.custom_id
            )
            return refused_row(index, duplicate, line, "duplicate_custom_id")
        if fate == CHANGED:
            changed = InvalidRow(
                "the custom_id is answered already, for another request", custom_id=row.custom_id
            )
            return refused_row(index, changed, line)
        return index, row

    def pipe_item(self, index: int, line: bytes, sorter: Sorter) -> Item:
        """Return what becomes of a line of a pipe; None if it has its answer."""
        fate, _ = sorter.fate(line)
        self._rows += 1
        if fate == DONE:
            self._already_done += 1
        item = None if fate == DONE else self.item(index, line, fate)
        if self._positions is not None and fate in (ASK, DONE):
            custom_id = row_of_line(line, self._params).custom_id
            self._positions.put(word_of(custom_id), index)
        return item

    def pipe_lines(self) -> PipeLines:
        """Return the lines of the input, which is a pipe."""
        return self._files.input.pipe_lines()

    def may_ask(self, asked: int) -> bool:
        """Return whether one more row may be asked, of which so many have been."""
        return self._max_rows is None or asked < self._max_rows


class _PipeRows:
    """The rows of a pipe, looked at as they come."""

    def __init__(self, job: Job, sorter: Sorter) -> None:
        self._job = job
        self._sorter = sorter
        self._lines = job.pipe_lines()
        self._index = -1
        self._asked = 0

    def __aiter__(self) -> _PipeRows:
        return self

    async def __anext__(self) -> Item:
        if not self._job.may_ask(self._asked):
            raise StopAsyncIteration
        line = await anext(self._lines)
        while is_blank(line):
            line = await anext(self._lines)
        self._index += 1
        item = self._job.pipe_item(self._index, line, self._sorter)
        self._asked += isinstance(item, tuple)
        return item


async def run_files(
    client: Any,
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    errors: str | os.PathLike[str] | None = None,
    limit: int | Limiter = 64,
    max_retries: int = 5,
    patience: float = 300.0,
    on_cut: OnCut = "retry",
    stream: bool = False,
    params: Mapping[str, Any] | None = None,
    skip_invalid: bool = False,
    changed: Literal["stop", "keep"] = "stop",
    overwrite: bool = False,
    max_rows: int | None = None,
    ordered: bool = False,
    check: bool = False,
    on_progress: Callable[[Report], None] | None = None,
) -> Report:
    """Ask the rows of a file that have no answer yet, and append their answers to another.

    What `penstock batch` does: see its page for the files and the rules. `input` and `output` are
    names, "-" for standard input and output; `errors` is by default that of the output with
    `.errors` before its suffix. `limit` to `params` are those of `run`. `max_rows` bounds how many
    rows are asked; `check` only looks at the files. `on_progress` is called with the numbers of
    the moment, five times a second.

    Returns the report, also of a run that stopped (`report.stopped`) or had failures. Raises
    NotStarted, a ValueError, if nothing could be sent: malformed, duplicate or changed rows, a
    damaged output, one that another run has. Cancelled, it closes every connection at once; the
    answers that have come are in the file.
    """
    job = Job(
        client,
        input,
        output,
        errors=errors,
        limit=limit,
        max_retries=max_retries,
        patience=patience,
        on_cut=on_cut,
        stream=stream,
        params=params,
        skip_invalid=skip_invalid,
        changed=changed,
        overwrite=overwrite,
        max_rows=max_rows,
        ordered=ordered,
        check=check,
        on_progress=on_progress,
    )
    return await job.run()
