"""`penstock demo`: several streams at once, on the real model and on a scripted server."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from penstock._local.server import LocalServer
from penstock.cli import main
from penstock.testing.replies import error_reply
from penstock.testing.server import becomes_true, serve_in_thread

from .answers import chat_requests, endless, hello, server_with

BACKENDS = ["asyncio", "trio", "uvloop"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_real_model_streams_several_answers_at_once(
    backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["demo", "--streams", "3", "--max-tokens", "12", "--backend", backend])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "loading the model ...\n")
    assert {line[:3] for line in out.splitlines() if line.startswith("[")} == {"[0]", "[1]", "[2]"}
    assert f"smollm2-135m-instruct on {backend}" in out
    rows = [line for line in out.splitlines() if re.search(r"\d+ \+ \d+ = \d+", line)]
    assert len(rows) == 4  # three streams and the totals
    for row in rows[:3]:
        assert re.search(r" (stop|length) ", row)
        assert re.search(r"\d+\.\d\d s", row)


def test_each_stream_asks_for_usage_and_gets_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    with serve_in_thread(server_with(hello())) as server:
        assert (
            main(["demo", "--base-url", server.base_url, "--streams", "2", "--max-tokens", "9"])
            == 0
        )
    out = capsys.readouterr().out
    assert out.count("Hello there!") == 2
    assert out.count("7 + 3 = 10") == 2
    assert "14 + 6 = 20" in out
    bodies = [request.json for request in chat_requests(server.requests)]
    assert [body["stream_options"] for body in bodies] == [{"include_usage": True}] * 2
    assert [body["max_tokens"] for body in bodies] == [9, 9]


def test_a_failure_is_shown_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with serve_in_thread(server_with(error_reply(402, "credits used up"))) as server:
        assert main(["demo", "--base-url", server.base_url, "--streams", "2"]) == 1
    out = capsys.readouterr().out
    assert "credits used up" in out
    assert out.count("failed") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_closes_every_stream(backend: str) -> None:
    with serve_in_thread(server_with(endless())) as server:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "penstock",
                "demo",
                "--streams",
                "5",
                "--base-url",
                server.base_url,
                "--backend",
                backend,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert becomes_true(lambda: len(chat_requests(server.requests)) == 5)
            process.send_signal(signal.SIGINT)
            started = time.monotonic()
            _, err = process.communicate(timeout=20)
            took = time.monotonic() - started
        assert process.returncode == 130
        assert err == "interrupted: every stream is closed\n"
        assert took < 10
        assert becomes_true(lambda: server.open_connections == 0)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_after_ctrl_c_the_real_server_stops_generating() -> None:
    def generating() -> int:
        with urllib.request.urlopen(f"{base_url.removesuffix('/v1')}/slots", timeout=10) as reply:
            return sum(slot["is_processing"] for slot in json.load(reply))

    with LocalServer(parallel=2) as server:
        base_url = server.base_url
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "penstock",
                "demo",
                "--streams",
                "2",
                "--base-url",
                base_url,
                "--max-tokens",
                "1900",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with process:
            assert becomes_true(lambda: generating() == 2)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        assert becomes_true(lambda: generating() == 0)
