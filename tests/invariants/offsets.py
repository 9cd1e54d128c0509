"""At which offsets a recorded response is broken off.

A sample, in which each event loop, recording and fault has other offsets; the code that meets the
bytes is the same. The ends of the head and of the body are always in it. PENSTOCK_SWEEP=all is
every offset on each loop, of the heads as well.
"""

from __future__ import annotations

import asyncio
import zlib

import sniffio
import uvloop

from tests.support.sweeps import EVERYTHING

from .evidence import count

STEP = {"asyncio": 7, "uvloop": 31, "trio": 23}
AT_MOST = {"asyncio": 60, "uvloop": 10, "trio": 14}


def offsets(data: bytes, *, head: bool = False, step: int = 1, shift: int = 0) -> list[int]:
    """The offsets for the event loop that is running; the head's on request, its end always.

    `shift` begins that much later: what is done in several ways shares the offsets among them.
    """
    end_of_head = data.index(b"\r\n\r\n") + 4
    loop = event_loop()
    step = max(step, STEP[loop], len(data) // AT_MOST[loop])
    first = (zlib.crc32(data) + shift) % step
    if EVERYTHING:
        head, first, step = True, 0, 1
    start = 0 if head else end_of_head
    edges = {end_of_head, end_of_head + 1, len(data) - 1, len(data)}
    chosen = sorted({*range(start + first, len(data) + 1, step), *edges})
    count("offsets", len(chosen))
    return chosen


def event_loop() -> str:
    """The name of the running event loop: asyncio, uvloop or trio."""
    if sniffio.current_async_library() == "trio":
        return "trio"
    return "uvloop" if isinstance(asyncio.get_running_loop(), uvloop.Loop) else "asyncio"
