"""What it takes to have a client, in a process that has nothing yet.

    python -m tests.bench.importing penstock http://127.0.0.1:1/v1

So it imports next to nothing itself, and prints [wall, cpu, resident bytes, those before].
"""

import sys
import time


def resident() -> int:
    """Bytes; on systems without /proc, the most there have been."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - pathlib is a large import
            pages = int(file.read().split()[1])
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    import os

    return pages * os.sysconf("SC_PAGE_SIZE")


def have(client: str, base_url: str) -> object:
    """Import it and make one."""
    if client == "penstock":
        import penstock

        return penstock.AsyncClient(base_url)
    if client == "raw":  # what penstock stands on, in the manner of any library on anyio
        import anyio
        import anyio.lowlevel
        import msgspec

        return anyio.CancelScope, anyio.Event, msgspec
    package = __import__(client)
    if client == "openai":
        return package.AsyncOpenAI(base_url=base_url, api_key="none")
    if client == "httpcore":
        return package.AsyncConnectionPool()
    if client == "aiohttp":  # its sessions are made in an event loop
        return package, __import__("msgspec")
    raise ValueError(client)


if __name__ == "__main__":
    before = resident()
    wall, cpu = time.perf_counter(), time.process_time()
    made = have(sys.argv[1], sys.argv[2])
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print([wall, cpu, resident(), before])
