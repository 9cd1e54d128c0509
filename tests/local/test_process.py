"""The embedded server's process: one line of report, silence, an end with its standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from penstock._local import process as local_process
from tests.support.blocking import SOURCE

# Stands in for llama.cpp's bindings: it writes where it likes, and notes how it was set up.
BINDINGS = """
import json, os, threading, types

class CommonParams(types.SimpleNamespace):
    def __init__(self):
        super().__init__(model=types.SimpleNamespace(), cpuparams=types.SimpleNamespace(),
                         cpuparams_batch=types.SimpleNamespace())

class Server:
    listening_address = "http://127.0.0.1:12345"

    def __init__(self, parameters):
        os.write(1, b"loading\\n")
        os.write(2, b"llama_model_loader: ...\\n")
        print("still loading", flush=True)
        with open(os.environ["NOTES"], "w") as notes:
            json.dump(parameters, notes, default=vars)
        HOW
        # A generation that nobody waits for.
        threading.Thread(target=threading.Event().wait).start()
"""

Process: TypeAlias = "subprocess.Popen[bytes]"
Started: TypeAlias = "Callable[..., Process]"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes.json"


@pytest.fixture
def start(tmp_path: Path, notes: Path) -> Callable[..., Any]:
    """Start the process with bindings that do `how` after they were set up."""

    @contextmanager
    def started(parallel: int, how: str = "pass", model: str = "m.gguf") -> Iterator[Process]:
        (tmp_path / "xllamacpp.py").write_text(BINDINGS.replace("HOW", how))
        path = os.pathsep.join([str(tmp_path), SOURCE])
        with subprocess.Popen(
            [sys.executable, "-m", local_process.__name__, model, str(parallel)],
            env={**os.environ, "PYTHONPATH": path, "NOTES": str(notes)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    return started


def test_it_reports_one_line_and_ends_with_its_input(start: Callable[..., Any]) -> None:
    with start(1) as process:
        assert json.loads(process.stdout.readline()) == {"address": "http://127.0.0.1:12345"}
        assert process.poll() is None
        # The parent's end of the pipe is closed, by itself or with the parent.
        output, errors = process.communicate(timeout=20)
        assert (process.returncode, output, errors) == (0, b"", b"")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise RuntimeError('no such model')", "no such model"),
        ("raise MemoryError", "MemoryError"),
        ("raise OSError(2, 'Not found', 'm.gguf')", "[Errno 2] Not found: 'm.gguf'"),
    ],
)
def test_a_failure_is_told_in_one_line(start: Callable[..., Any], how: str, said: str) -> None:
    with start(1, how) as process:
        output, errors = process.communicate(timeout=20)
        assert (json.loads(output), errors) == ({"error": said}, b"")
        assert process.returncode == 1


def test_bindings_that_are_not_there_are_a_failure_as_well() -> None:
    # -S: no installed packages, -P: none of the current folder. The module needs none.
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['serve']('m.gguf', 1)"
    command = [sys.executable, "-S", "-P", "-c", code, str(local_process.__file__)]
    done = subprocess.run(command, capture_output=True, timeout=20, stdin=subprocess.DEVNULL)
    assert "xllamacpp" in json.loads(done.stdout)["error"]
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("parallel", [1, 4, 16, 200])
def test_how_the_server_is_set_up(start: Callable[..., Any], notes: Path, parallel: int) -> None:
    with start(parallel, model="folder/m.gguf") as process:
        assert process.stdout.readline()
        parameters = json.loads(notes.read_text())
    slots = min(parallel, local_process.MAX_SLOTS)
    assert parameters["model"] == {"path": "folder/m.gguf"}
    assert parameters["n_parallel"] == slots
    # All slots share the context: each has its tokens.
    assert parameters["n_ctx"] == slots * local_process.CONTEXT_TOKENS
    # A thread for each connection, also of those that wait for a slot, and some to spare.
    assert parameters["n_threads_http"] > parallel
    # Nobody but this machine, at a port that is free.
    assert (parameters["hostnames"], parameters["port"]) == (["127.0.0.1"], 0)
    assert 1 <= parameters["cpuparams"]["n_threads"] <= (os.cpu_count() or 2)
    assert parameters["cpuparams"] == parameters["cpuparams_batch"]
