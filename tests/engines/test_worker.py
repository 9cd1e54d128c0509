"""Settings are checked when they are made; a worker closes what it opened."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import AuthenticationError, Timeouts
from penstock.batch import Outcome
from penstock.engines.rows import Rows
from penstock.engines.worker import Settings, Worker
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply
from penstock.testing.script import Script

from .support import OK, URL, on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

ROW = Rows("m", None).row("Hi", None)


def settings(**changed: Any) -> Settings:
    return Settings(
        **{
            "base_url": URL,
            "provider": "openai",
            "api_key_env": None,
            "concurrency": 2,
            "per_second": None,
            "adaptive": True,
            "max_retries": 1,
            "patience": 60.0,
            "timeouts": Timeouts(),
            "on_cut": "retry",
            "on_refused": "raise",
            "stream": False,
            **changed,
        }
    )


def worker(
    monkeypatch: pytest.MonkeyPatch, script: Script, **changed: Any
) -> tuple[Worker, dict[Any, Worker]]:
    on(monkeypatch, script)
    owners: dict[Any, Worker] = {}
    made = owners["loop"] = Worker(settings(**changed), owners, "loop")
    return made, owners


async def test_a_worker_that_is_closed_is_nobody_s(monkeypatch: pytest.MonkeyPatch) -> None:
    made, owners = worker(monkeypatch, OK)
    assert isinstance(await made.ask(ROW), Outcome)
    made.close()
    made.close()
    assert owners == {}


async def test_closing_leaves_a_successor_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made, owners = worker(monkeypatch, OK)
    successor = owners["loop"] = Worker(settings(), owners, "loop")
    made.close()
    assert owners == {"loop": successor}
    successor.close()


async def test_a_refusal_is_returned_as_the_server_s_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = worker(monkeypatch, error_reply(401, "no such key"))
    for _ in range(2):
        assert isinstance(await made.ask(ROW), AuthenticationError)
    made.close()


@pytest.mark.parametrize("key", ["", "  "])
def test_a_key_that_is_missing(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(ValueError, match="SOME_KEY in each worker"):
        settings(api_key_env="SOME_KEY").client()


def test_a_key_that_is_not_one_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-\ntwo lines")
    with pytest.raises(ValueError, match="SOME_KEY") as caught:
        settings(api_key_env="SOME_KEY").client()
    assert "two lines" not in str(caught.value)
