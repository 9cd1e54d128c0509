"""One measurement, in the process it is made in: `python -m tests.bench.worker JOB`."""

from __future__ import annotations

import ssl
import sys

import anyio
import msgspec

from . import drivers
from .drivers.base import Address
from .measure import Job, Result, more_files, peak_memory
from .workloads import WORKLOADS, Measured, size_of

__all__ = ["perform"]

# Seconds, warm-up included, for the slowest client on a busy machine.
PATIENCE = {"full": 240, "quick": 120, "tiny": 30}


def perform(job: Job) -> Result:
    """Do it in this process."""
    more_files()
    driver = drivers.load(job.driver)
    workload = WORKLOADS[job.workload]
    run = workload.run
    if run is None or job.loop not in driver.loops:
        raise ValueError(f"{job.client} does not do {job.workload}")

    context = ssl.create_default_context(cafile=job.authority) if job.authority else None
    address = Address(job.base_url, context)

    async def main() -> Measured:
        with anyio.fail_after(PATIENCE[job.scale]):
            async with driver.open(address) as peer:
                return await run(peer, size_of(job.workload, job.scale))

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
    if unit == "KiB/stream":
        return measured.memory / 1024 / measured.requests
    units = measured.events if unit == "us/event" else measured.requests
    return measured.clock.cpu / units * 1e6


if __name__ == "__main__":
    print(msgspec.json.encode(perform(msgspec.json.decode(sys.argv[1], type=Job))).decode())
