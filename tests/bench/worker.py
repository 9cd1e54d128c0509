"""Measurements, in the process they are made in: `python -m tests.bench.worker JOBS`."""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path

import anyio
import msgspec

from . import drivers
from .drivers.base import Address
from .measure import Job, Result, more_files, peak_memory
from .work import Measured
from .workloads import WORKLOADS

__all__ = ["perform"]


def perform(job: Job) -> Result:
    """Do it in this process."""
    more_files()
    if job.core is not None and sys.platform == "linux":
        os.sched_setaffinity(0, {job.core})
    driver = drivers.load(job.driver)
    workload = WORKLOADS[job.workload]
    run = workload.run
    if run is None or job.loop not in driver.loops:
        raise ValueError(f"{job.client} does not do {job.workload}")

    context = ssl.create_default_context(cafile=job.authority) if job.authority else None
    address = Address(job.base_url, context, Path(job.authority) if job.authority else None)

    async def main() -> Measured:
        with anyio.fail_after(job.patience):
            async with driver.open(address) as peer:
                return await run(peer, job.size)

    backend = "trio" if job.loop == "trio" else "asyncio"
    options = {"use_uvloop": True} if job.loop == "uvloop" else {}
    measured = anyio.run(main, backend=backend, backend_options=options)
    return Result(
        workload=job.workload,
        client=job.client,
        figure=_figure(workload.unit, measured),
        cpu=measured.clock.cpu,
        wall=measured.clock.wall,
        events=measured.events,
        requests=measured.requests,
        peak=peak_memory(),
        characters=sum(len(received.text) for received in measured.received),
    )


def _figure(unit: str, measured: Measured) -> float:
    match unit:
        case "KiB" | "KiB/stream":
            return measured.memory / 1024 / measured.requests
        case "ms":
            return measured.delay
        case "ns/byte":
            return measured.clock.cpu / measured.size * 1e9
        case "us/event":
            return measured.clock.cpu / measured.events * 1e6
        case _:
            return measured.clock.cpu / measured.requests * 1e6


if __name__ == "__main__":
    for job in msgspec.json.decode(sys.argv[1], type=list[Job]):
        print(msgspec.json.encode(perform(job)).decode(), flush=True)
