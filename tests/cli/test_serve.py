"""`penstock serve`: a ready line, an API, and a clean end by Ctrl-C."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import pytest

from penstock import Client
from penstock._local.process import MODEL_NAME
from penstock.cli import main


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "penstock", "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(by: signal.Signals) -> None:
    process = start("--parallel", "1")
    with process:
        assert process.stdout is not None
        ready = re.fullmatch(r"(\S+) at (http://\S+/v1) .*\n", process.stdout.readline())
        assert ready is not None
        assert ready[1] == MODEL_NAME
        with Client(ready[2]) as client:
            assert [model.id for model in client.models.list()] == [MODEL_NAME]
        process.send_signal(by)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == "loading the model ...\n"


def test_a_number_that_is_no_port(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--port", "65536"])
    assert "argument --port: must be at most 65535, not 65536\n" in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status = main(["serve", "--port", str(port)])
    assert status == 1
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "loading the model ..."
    assert err[1] == f"penstock: cannot serve on port {port}: Address already in use"
    assert len(err) == 2
