"""Standard output and standard error that are closed or full: one line, and status 1."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.testing import Server, serve_in_thread

from .answers import hello, server_with

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="Linux has a device that is full")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve_in_thread(server_with(hello())) as server:
        yield server


def run(server: Server, command: str, redirection: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command of the shell."""
    where = "" if command.startswith("serve") else f"--base-url {server.base_url}"
    line = f"'{sys.executable}' -m penstock {command} {where}"
    done = subprocess.run(
        ["sh", "-c", f"{line} {redirection}"], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


COMMANDS = ("chat hi --model m", "demo --streams 2 --model m", "models")


@needs_full
@pytest.mark.parametrize("command", [*COMMANDS, "serve --port 0"])
def test_a_full_disk(server: Server, command: str) -> None:
    code, _, errors = run(server, command, f">{FULL}")
    assert code == 1
    assert errors == "penstock: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("command", [*COMMANDS, "serve --port 0"])
def test_closed_standard_output(server: Server, command: str) -> None:
    before = len(server.requests)
    code, _, errors = run(server, command, ">&-")
    assert (code, errors) == (1, "penstock: standard output is closed\n")
    assert len(server.requests) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_closed_standard_error(server: Server, command: str) -> None:
    code, output, _ = run(server, command, "2>&-")
    assert code == 0
    assert "penstock:" not in output


@pytest.mark.parametrize("redirection", ["2>&-", pytest.param(f"2>{FULL}", marks=needs_full)])
def test_an_error_that_cannot_be_told(server: Server, redirection: str) -> None:
    code, output, _ = run(server, "chat ''", redirection)
    assert (code, output) == (1, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_leaves(server: Server, command: str) -> None:
    code, _, errors = run(server, command, "| true; exit 7")
    assert (code, errors) == (7, "")
