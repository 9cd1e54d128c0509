"""The server's process, from the client's side."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Serving", "serving"]

ROOT = Path(__file__).parents[2]


class Serving:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        start = self._line()
        self.ports: dict[str, int] = start["ports"]
        self.ssl_context = ssl.create_default_context(cadata=start["authority"])

    def report(self) -> dict[str, Any]:
        """What the server has noted since it was asked last. Blocks for a moment."""
        assert self._process.stdin is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line: dict[str, Any] = json.loads(self._process.stdout.readline())
        return line


@contextmanager
def serving(seed: int) -> Iterator[Serving]:
    """Start a server that misbehaves as this seed says."""
    command = [sys.executable, "-m", "tests.soak.server", str(seed)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Serving(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
