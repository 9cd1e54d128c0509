"""`penstock models`: names on stdout, the figures on stderr, and an exit status that tells."""

from __future__ import annotations

import json
import re

import pytest

from penstock.cli import main
from penstock.testing.replies import error_reply
from penstock.testing.script import Stall, reply
from penstock.testing.server import closed_port, serve_in_thread

from .answers import hello, server_with


@pytest.mark.parametrize("backend", ["asyncio", "trio", "uvloop"])
def test_it_lists_the_models(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serve_in_thread(server_with(hello(), models=["a", "b"])) as server:
        status = main(["models", "--base-url", server.base_url, "--backend", backend])
        url = server.base_url
    out, err = capsys.readouterr()
    assert (status, out) == (0, "a\nb\n")
    assert err.startswith(f"2 models at {url} after 0.")


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with serve_in_thread(server_with(hello(), models=["a", "b"])) as server:
        assert main(["models", "--base-url", server.base_url, "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b"]


def test_one_model_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with serve_in_thread(server_with(hello())) as server:
        main(["models", "--base-url", server.base_url])
    assert capsys.readouterr().err.startswith("1 model at ")


@pytest.mark.parametrize("fault", ["refused", "no key", "silent", "no path", "no url"])
def test_what_was_wrong_is_one_line(
    fault: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = {"refused": error_reply(401, "bad key"), "no path": error_reply(404, "no path")}
    script = scripts.get(fault, reply(Stall()))
    with serve_in_thread(script) as server:
        options = ["--base-url", server.base_url, "--timeout", "0.2"]
        if fault == "no key":
            monkeypatch.delenv("OPENAI_API_KEY", raising=False)
            options = []
        elif fault == "no url":
            options = ["--base-url", "llm.test/v1"]
        assert main(["models", *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("penstock: ")
    assert err.count("\n") == 1
    # Options of the command line, not arguments of the library.
    assert ("--base-url" in err) == (fault in ("no key", "no path", "no url"))
    assert ("--timeout" in err) == (fault == "silent")
    assert not re.search(r"api_key=|\bbase_url|Timeouts", err)


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["models", "--base-url", f"http://127.0.0.1:{closed_port()}/v1"])
    assert status == 1
    assert capsys.readouterr().err.count("\n") == 1
