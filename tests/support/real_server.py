"""The embedded model's server as a process that may be killed, stopped and started again.

One thread computes: with several, which wait for each other in a loop, a core that others use
as well makes a token take seconds.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from penstock import AsyncClient
from penstock._local.server import _base_url, model_file

__all__ = ["RealServer", "real_server", "slots"]

_CODE = """
import sys
from penstock._local.process import serve
model, parallel, port = sys.argv[1:]
serve(model, int(parallel), port=int(port), threads=1)
"""


class RealServer:
    """One process at a time, on one port."""

    def __init__(self, parallel: int) -> None:
        self._parallel = parallel
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """What a client is given."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def root(self) -> str:
        """What llama.cpp's own endpoints are below."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, on the port it has had before; returns when it answers."""
        assert self._process is None
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(model_file()), str(self._parallel), str(self._port)],
            stdin=subprocess.PIPE,  # it ends with us
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._port = int(_base_url(self._process).removesuffix("/v1").rpartition(":")[2])

    def kill(self) -> None:
        """End it at once (SIGKILL), stopped or not; its connections are closed by the kernel."""
        process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()

    def stop(self) -> None:
        """It does nothing any more (SIGSTOP), but its connections are open."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `stop` (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def recover(self) -> None:
        """It runs, whatever was done to it."""
        if self._process is None:
            self.start()
        else:
            self.go_on()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def real_server(parallel: int) -> Iterator[RealServer]:
    """A server that can answer so many requests at once; gone when the block is left."""
    server = RealServer(parallel)
    try:
        server.start()
        yield server
    finally:
        server.kill()


async def slots(observer: AsyncClient) -> list[dict[str, Any]]:
    """What the server says of its slots, to a client of `RealServer.root`."""
    found: list[dict[str, Any]] = (await observer.request("GET", "/slots")).json()
    return found
