"""`penstock batch`: a file of prompts, asked row by row."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from .output import complain
from .progress import Progress, plain
from .run import UsageError, connect, run_on

if TYPE_CHECKING:
    import argparse

    from ..batch import Report
    from ..batch.job import Job

__all__ = ["run"]

ALL_ANSWERED, SOME_FAILED, NOT_STARTED, STOPPED, UNAVAILABLE, CANNOT_WRITE = range(6)
_STATUS = {
    "refused": STOPPED,
    "fuse": STOPPED,
    "unavailable": UNAVAILABLE,
    "output": CANNOT_WRITE,
}


def run(arguments: argparse.Namespace) -> int:
    """Run the job and return its exit status."""
    from ..batch import NotStarted

    try:
        _check(arguments)
        return run_on(arguments.backend, partial(_batch, arguments))
    except NotStarted as error:
        complain(f"penstock: {plain(str(error))}")
        for detail in error.details:
            complain(f"  {plain(detail)}")
    except UsageError as error:
        complain(f"penstock: {plain(str(error))}")
    return NOT_STARTED


def _check(arguments: argparse.Namespace) -> None:
    if arguments.api_key_env is not None and arguments.base_url is None:
        raise UsageError("--api-key-env needs --base-url; a provider has its own variable")
    report = arguments.report
    if report is not None:
        path = Path(report)
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise UsageError(f"cannot write the report to {report}")
        files = (arguments.input, arguments.output, arguments.errors)
        if any(os.path.realpath(report) == os.path.realpath(file) for file in files if file):
            raise UsageError(f"{report} cannot be the report and another file of the job")


async def _batch(arguments: argparse.Namespace) -> int:
    from ..batch.job import Job

    _allow_connections(arguments.concurrency)
    progress = Progress(arguments.progress, arguments.progress_every)
    async with _client(arguments) as client:
        try:
            job = Job(
                client,
                arguments.input,
                arguments.output,
                errors=arguments.errors,
                limit=_limiter(arguments),
                max_retries=arguments.max_retries,
                patience=arguments.patience,
                on_cut=arguments.on_cut,
                stream=arguments.stream,
                params=_params(arguments),
                skip_invalid=arguments.skip_invalid,
                changed=arguments.changed,
                overwrite=arguments.overwrite,
                max_rows=arguments.limit,
                ordered=arguments.ordered,
                check=arguments.check,
                on_progress=progress.update,
            )
        except (ValueError, TypeError) as error:
            raise UsageError(str(error)) from error
        report, signum = await _until_done(job, arguments.grace)
    progress.finish(report)
    status = _status(report, signum, job)
    if report.stopped is not None and not job.reader_left:
        complain(f"penstock: {plain(report.message or report.stopped)}")
    if report.stopped is not None and status != CANNOT_WRITE and not job.reader_left:
        complain("penstock: to finish the job, run the same command again")
    return _write_report(arguments.report, report, status)


def _client(arguments: argparse.Namespace) -> Any:
    """Return a client, or a Spread over several servers; both are async context managers."""
    from ..timeouts import Timeouts

    timeouts = Timeouts()
    if arguments.timeout is not None:
        # In all means that an answer which comes late may be silent for as long.
        timeouts = Timeouts(read=None, total=arguments.timeout)
    clients = [
        connect(arguments.provider, url, arguments.api_key_env, timeouts=timeouts)
        for url in arguments.base_url or [None]
    ]
    if len(clients) == 1:
        return clients[0]
    from .. import Spread

    return Spread(clients)


def _limiter(arguments: argparse.Namespace) -> Any:
    from .. import Limiter

    rpm = arguments.rpm
    return Limiter(
        arguments.concurrency,
        adaptive=not arguments.no_adaptive,
        # Evenly over the minute: many servers count by the second as well.
        per_second=None if rpm is None else rpm / 60,
        requests_per_minute=rpm,
        tokens_per_minute=arguments.tpm,
    )


def _params(arguments: argparse.Namespace) -> dict[str, Any]:
    params: dict[str, Any] = dict(arguments.settings)
    if arguments.model is not None:
        params["model"] = arguments.model
    return params


async def _until_done(job: Job, grace: float) -> tuple[Report, int | None]:
    """Return the report, and the signal that ended the job, if one did."""
    received: list[int] = []
    report: Report | None = None
    failure: Exception | None = None

    async def obey(*, task_status: Any) -> None:
        try:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                task_status.started()
                async for signum in signals:
                    received.append(signum)
                    name = signal.Signals(signum).name
                    job.interrupt(f"stopped by {name}", grace if len(received) == 1 else 0.0)
        except NotImplementedError:  # asyncio on Windows: Ctrl-C is a KeyboardInterrupt
            task_status.started()

    async with anyio.create_task_group() as group:
        await group.start(obey)
        try:
            report = await job.run()
        except Exception as error:  # noqa: BLE001 - raised below, without a group
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    assert report is not None
    return report, received[0] if received else None


def _status(report: Report, signum: int | None, job: Job) -> int:
    if job.reader_left:
        return SOME_FAILED
    if report.stopped in _STATUS:
        return _STATUS[report.stopped]
    if signum is not None:
        return 128 + signum
    return SOME_FAILED if report.failed else ALL_ANSWERED


def _write_report(path: str | None, report: Report, status: int) -> int:
    if path is None:
        return status
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(report))
    try:
        Path(path).write_bytes(text + b"\n")
    except OSError as error:
        complain(f"penstock: cannot write the report to {path}: {error.strerror}")
        return status if status > SOME_FAILED else CANNOT_WRITE
    return status


def _allow_connections(concurrency: int) -> None:
    """Raise the process's bound on open files, where it is lower than what is needed."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = concurrency + 128
        if soft != resource.RLIM_INFINITY and soft < needed:
            most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
