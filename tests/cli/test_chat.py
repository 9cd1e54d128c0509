"""`penstock chat`: an answer on stdout, or one line on stderr."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from penstock.cli import main
from penstock.testing.replies import error_reply
from penstock.testing.server import becomes_true, closed_port, serve_in_thread

from .answers import chat_requests, endless, hello, server_with

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from penstock.testing.script import RecordedRequest

BACKENDS = ["asyncio", "trio", "uvloop"]


def the_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What went to stderr, which has to be one line of the program and no traceback."""
    err = capsys.readouterr().err
    assert re.fullmatch(r"penstock: [^\n]+\n", err), err
    return err


def the_request(requests: Sequence[RecordedRequest]) -> Any:
    """The body of the one request for an answer."""
    [request] = chat_requests(requests)
    return request.json


def keys(requests: Sequence[RecordedRequest]) -> list[str | None]:
    """The keys that came with requests for an answer."""
    return [request.headers.get("authorization") for request in chat_requests(requests)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_answer_goes_to_stdout(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serve_in_thread(server_with(hello())) as server:
        status = main(["chat", "hi", "--base-url", server.base_url, "--backend", backend])
    assert (status, *capsys.readouterr()) == (0, "Hello there!\n", "")
    request = the_request(server.requests)
    assert request["model"] == "tiny"
    assert request["messages"] == [{"role": "user", "content": "hi"}]
    assert not {"temperature", "max_tokens"} & set(request)


def test_options_reach_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    with serve_in_thread(server_with(hello())) as server:
        options = ["--system", "be brief", "--max-tokens", "5", "--temperature", "0"]
        status = main(["chat", "hi", "--base-url", server.base_url, "--model", "m", *options])
    assert status == 0
    assert capsys.readouterr().out == "Hello there!\n"
    request = the_request(server.requests)
    assert request["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("m", 5, 0.0)


def test_the_prompt_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe\n"))
    with serve_in_thread(server_with(hello())) as server:
        assert main(["chat", "-", "--base-url", server.base_url]) == 0
    assert the_request(server.requests)["messages"][0]["content"] == "from a pipe\n"


def test_a_provider_takes_its_key_and_url_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serve_in_thread(server_with(hello())) as server:
        monkeypatch.setenv("PARETA_API_KEY", "secret-key")
        monkeypatch.setenv("PARETA_BASE_URL", server.base_url)
        assert main(["chat", "hi", "--provider", "pareta", "--model", "m"]) == 0
    assert keys(server.requests) == ["Bearer secret-key"]


def test_a_providers_key_is_not_sent_to_another_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    monkeypatch.setenv("OTHER_KEY", "other-key")
    with serve_in_thread(server_with(hello())) as server:
        assert main(["chat", "hi", "--base-url", server.base_url]) == 0
        assert (
            main(["chat", "hi", "--base-url", server.base_url, "--api-key-env", "OTHER_KEY"]) == 0
        )
    assert keys(server.requests) == [None, "Bearer other-key"]


def test_a_missing_key_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "hi", "--provider", "pareta", "--model", "m"]) == 1
    assert "PARETA_API_KEY" in the_line(capsys)


@pytest.mark.parametrize("url", ["localhost/v1", "ftp://127.0.0.1/v1", "http://"])
def test_a_wrong_url_is_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "hi", "--base-url", url, "--model", "m"]) == 1
    the_line(capsys)


def test_a_server_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    assert main(["chat", "hi", "--base-url", url, "--model", "m"]) == 1
    the_line(capsys)


@pytest.mark.parametrize("status", [400, 401, 402, 404, 422])
def test_an_error_status_is_one_line(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    answer = error_reply(status, "credits\nused up", type="billing")
    with serve_in_thread(answer) as server:
        assert main(["chat", "hi", "--base-url", server.base_url, "--model", "m"]) == 1
    assert "credits used up" in the_line(capsys)
    assert len(server.requests) == 1


def test_an_answer_that_ends_early_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with serve_in_thread(server_with(hello("length"))) as server:
        assert main(["chat", "hi", "--base-url", server.base_url]) == 0
    assert "length" in the_line(capsys)


def test_several_models_ask_for_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    with serve_in_thread(server_with(hello(), models="abcdefg")) as server:
        assert main(["chat", "hi", "--base-url", server.base_url]) == 1
    assert "a, b, c, d, e and 2 more" in the_line(capsys)
    assert not chat_requests(server.requests)


def test_an_empty_prompt_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", " ", "--local"]) == 1
    assert "empty" in the_line(capsys)


def test_a_key_variable_that_is_not_set_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["chat", "hi", "--base-url", "http://127.0.0.1:1/v1", "--api-key-env", "NO_KEY"]
    assert main(arguments) == 1
    assert "NO_KEY" in the_line(capsys)


def test_the_embedded_model_answers(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["chat", "Say hello.", "--local", "--max-tokens", "8", "--temperature", "0"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_closes_the_stream(backend: str) -> None:
    with serve_in_thread(server_with(endless())) as server:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "penstock",
                "chat",
                "hi",
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
            assert becomes_true(lambda: chat_requests(server.requests))
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert err == ""
        assert out.endswith("\n")
        assert becomes_true(lambda: server.open_connections == 0)


@pytest.mark.skipif(sys.platform == "win32", reason="closes a pipe")
def test_a_reader_that_leaves_is_no_traceback() -> None:
    with serve_in_thread(server_with(endless())) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock", "chat", "hi", "--base-url", server.base_url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.read(5) == b"Hello"
            process.stdout.close()
            assert process.wait(20) == 1
            assert process.stderr.read() == b""
        assert becomes_true(lambda: server.open_connections == 0)


def test_a_conversation_in_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    prompts = ["hi", "", "again"]

    def ask(_: str) -> str:
        if not prompts:
            raise EOFError
        return prompts.pop(0)

    terminal = mock.Mock()
    terminal.isatty.return_value = True
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("builtins.input", ask)
    history = tmp_path / "talk.jsonl"
    with serve_in_thread(server_with(hello())) as server:
        options = ["--base-url", server.base_url, "--history", str(history)]
        assert main(["chat", *options]) == 0
    first, second = chat_requests(server.requests)
    assert [each["content"] for each in first.json["messages"]] == ["hi"]
    assert [each["content"] for each in second.json["messages"]] == ["hi", "Hello there!", "again"]
    assert capsys.readouterr().out == "Hello there!\nHello there!\n\n"
    assert len(history.read_text().splitlines()) == 4


def test_json_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with serve_in_thread(server_with(hello())) as server:
        options = ["--base-url", server.base_url, "--json", "--usage"]
        assert main(["chat", "hi", *options]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["choices"][0]["message"]["content"] == "Hello there!"
    assert re.fullmatch(r"7 \+ 3 tokens, first after \d\.\d\d s, all after \d\.\d\d s\n", err)


def test_a_timeout_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with serve_in_thread(server_with(endless())) as server:
        options = ["--base-url", server.base_url, "--timeout", "0.3"]
        assert main(["chat", "hi", *options]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("Hello there!")
    assert re.fullmatch(r"penstock: not finished within 0.3 s[^\n]*\n", err)
