"""Runs measurements, each in a fresh process, all in turn, and keeps what they gave."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from . import drivers
from .measure import Job, Result
from .serving import ROOT, Server, serving
from .workloads import WORKLOADS, size_of

__all__ = ["CLIENTS", "Outcome", "jobs", "measure", "one", "several"]

CLIENTS = (
    "penstock",
    "penstock@uvloop",
    "penstock@trio",
    "openai",
    "openai-aiohttp",
    "aiohttp",
    "aiohttp@uvloop",
    "httpcore",
    "pyreqwest",
    "pyreqwest@uvloop",
    "wreq",
    "wreq@uvloop",
    "httptools",
    "httptools@uvloop",
    "raw",
    "raw@uvloop",
    "raw@trio",
)
_IMPORTED = ("penstock", "openai", "aiohttp", "httpcore", "raw")
# httpcore's pool is quadratic in its connections: half a minute for each run of this.
_TOO_SLOW = {("fan", "httpcore", "full")}
TIMEOUT = 300  # seconds for one process
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


class Outcome(msgspec.Struct):
    """All runs of one workload with one client."""

    workload: str
    client: str
    unit: str
    median: float
    """Of the runs' figures."""
    runs: list[Result]


def jobs(workloads: Sequence[str], clients: Sequence[str], scale: str) -> list[Job]:
    """Every measurement there is for these; what is not installed is left out."""
    return [
        Job(workload, client, size_of(workload, scale))
        for workload in workloads
        for client in clients
        if _fits(workload, client, scale)
    ]


def _fits(workload: str, client: str, scale: str) -> bool:
    name, _, loop = client.partition("@")
    only = WORKLOADS[workload].only or (_IMPORTED if workload == "import" else ())
    if (only and name not in only) or (workload == "import" and loop):
        return False
    return (workload, name, scale) not in _TOO_SLOW and drivers.available(client)


def measure(work: Sequence[Job], runs: int, say: Callable[[str], None]) -> list[Outcome]:
    """Do all of it so many times. The clients take turns, so that a change of the machine's
    mood meets all of them.
    """
    results: dict[tuple[str, str], list[Result]] = {}
    failed: set[tuple[str, str]] = set()
    with serving() as server:
        for job in _in_turn(work, runs):
            try:
                result = one(job, server)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                # The rest is worth having all the same; who fails is not in the tables.
                say(f"{job.workload:13} {job.client:16} FAILED\n{error}")
                failed.add((job.workload, job.client))
                continue
            results.setdefault((job.workload, job.client), []).append(result)
            unit = WORKLOADS[job.workload].unit
            say(f"{job.workload:13} {job.client:16} {result.figure:10.2f} {unit}")
    return [
        Outcome(
            workload,
            client,
            WORKLOADS[workload].unit,
            statistics.median(result.figure for result in runs),
            runs,
        )
        for (workload, client), runs in results.items()
        if (workload, client) not in failed
    ]


def _in_turn(work: Sequence[Job], runs: int) -> Iterator[Job]:
    # One workload after the other, because what is compared should lie close in time.
    for workload in dict.fromkeys(job.workload for job in work):
        group = [job for job in work if job.workload == workload]
        for number in range(runs):
            yield from group if number % 2 == 0 else reversed(group)


def one(job: Job, server: Server) -> Result:
    """One measurement in a process of its own. Raises RuntimeError with what it printed."""
    if job.workload == "import":
        return _import(job, server.plain)
    before = statistics_of(server)["connections"]
    (result,) = several([job], server)
    after = statistics_of(server)
    result.connections = int(after["connections"] - before) - 1
    result.late = after["late"]
    return result


def several(work: Sequence[Job], server: Server) -> list[Result]:
    """One measurement after the other in the same process. Raises RuntimeError, too."""
    placed = [server.place(job) for job in work]
    output = _run("tests.bench.worker", msgspec.json.encode(placed).decode())
    return [msgspec.json.decode(line, type=Result) for line in output.splitlines()]


def _import(job: Job, base_url: str) -> Result:
    command = ("tests.bench.importing", job.client, base_url)
    # As installed, with its bytecode written, whatever this process was told about that.
    with tempfile.TemporaryDirectory() as folder:
        compiled = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        _run(*command, settings=compiled)
        output = _run(*command, settings=compiled)
    wall, cpu, after, _ = msgspec.json.decode(output, type=list[float])
    return Result(
        workload=job.workload,
        client=job.client,
        figure=cpu * 1e3,
        cpu=cpu,
        wall=wall,
        events=0,
        requests=0,
        peak=int(after),
    )


def _run(module: str, *arguments: str, settings: Mapping[str, str] = NO_SETTINGS) -> str:
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{process.stderr}")
    return process.stdout


def statistics_of(server: Server) -> dict[str, float]:
    """The server's counts."""
    with urllib.request.urlopen(f"{server.plain}/stats") as response:
        return msgspec.json.decode(response.read(), type=dict[str, float])
