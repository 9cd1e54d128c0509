"""Starts the bench's server, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from .measure import Job
from .workloads import WORKLOADS

__all__ = ["ROOT", "Server", "serving"]

ROOT = Path(__file__).parents[2]


class Server(msgspec.Struct, frozen=True):
    """Where it listens."""

    plain: str
    """The base URL, as tls."""
    tls: str
    authority: str
    """The PEM file that a client believes."""

    def place(self, job: Job) -> Job:
        """The job with the address that it is for."""
        if WORKLOADS[job.workload].tls:
            return msgspec.structs.replace(job, base_url=self.tls, authority=self.authority)
        return msgspec.structs.replace(job, base_url=self.plain)


@contextmanager
def serving(*, core: int | None = None) -> Iterator[Server]:
    """The server, until the block is left; `core` is the only one that it may use."""
    with tempfile.TemporaryDirectory() as folder:
        authority, certificate = _certificates(Path(folder))
        command = [sys.executable, "-m", "tests.bench.server", str(certificate)]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            if core is not None and sys.platform == "linux":
                os.sched_setaffinity(process.pid, {core})
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                plain, tls = map(int, process.stdout.readline().split())
                yield Server(
                    f"http://127.0.0.1:{plain}/v1", f"https://127.0.0.1:{tls}/v1", str(authority)
                )
            finally:
                process.stdin.close()
                process.wait(timeout=10)


def _certificates(folder: Path) -> tuple[Path, Path]:
    """The authority, and the certificate of the server with its key."""
    import trustme

    made = trustme.CA()
    authority, certificate = folder / "authority.pem", folder / "server.pem"
    made.cert_pem.write_to_path(str(authority))
    made.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    return authority, certificate
