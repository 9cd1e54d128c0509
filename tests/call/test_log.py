"""What is logged: documented names and levels, figures as attributes, never a key or a body."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest

import penstock
from penstock._call import log
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.script import Reset, Stall
from penstock.testing.server import serve_in_thread
from tests.support.chat import KEY, REQUEST, client_on

__all__ = ["anyio_backend"]

SECRET = "a word of the server"
HELLO = sse_reply(tokens(SECRET))
REFUSED = error_reply(503, SECRET)
CUT = sse_reply([*tokens(SECRET, finish=None), Reset()], done=False)
ENDLESS = sse_reply([*tokens(SECRET, finish=None), Stall()], done=False)

# Attributes that formatters for JSON find, by logger.
EXTRA = {
    "penstock.request": {"model"},
    "penstock.connection": {"host", "attempt", "reused", "seconds"},
    "penstock.retry": {"attempt", "reason", "status_code", "wait", "host", "model"},
    "penstock.stream": {"reason", "seconds", "bytes", "host", "model"},
}


async def life(script: Any, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    with caplog.at_level(logging.DEBUG, "penstock"):
        async with client_on(MemoryNetwork(script)) as client:
            stream = client.chat.completions.stream(**REQUEST)
            try:
                async with stream:
                    async for _ in stream:
                        if script is ENDLESS:
                            break
            except penstock.PenstockError:
                pass
    return [record for record in caplog.records if record.name.startswith("penstock.")]


REQUEST_BEGAN = ("penstock.request", "DEBUG")
CONNECTED = ("penstock.connection", "DEBUG")
ANSWERED = ("penstock.request", "DEBUG")
ENDED = ("penstock.request", "DEBUG")
RETRY = ("penstock.retry", "INFO")
BROKE_OFF = ("penstock.stream", "WARNING")

LIVES: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "completed": (HELLO, [REQUEST_BEGAN, CONNECTED, ANSWERED, ENDED]),
    "retried": (
        [REFUSED, HELLO],
        [REQUEST_BEGAN, CONNECTED, RETRY, CONNECTED, ANSWERED, ENDED],
    ),
    "refused": (
        REFUSED,
        [REQUEST_BEGAN, CONNECTED, RETRY, CONNECTED, RETRY, CONNECTED, ENDED],
    ),
    "cut": (CUT, [REQUEST_BEGAN, CONNECTED, ANSWERED, BROKE_OFF, ENDED]),
    "left": (ENDLESS, [REQUEST_BEGAN, CONNECTED, ANSWERED, ENDED]),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", LIVES)
async def test_the_life_of_a_stream(name: str, caplog: pytest.LogCaptureFixture) -> None:
    script, expected = LIVES[name]
    records = await life(script, caplog)
    assert [(record.name, record.levelname) for record in records] == expected
    for record in records:
        assert EXTRA[record.name] <= vars(record).keys()
        assert "%" not in record.getMessage()
        # A formatter that writes JSON takes them as they are.
        json.dumps({key: vars(record)[key] for key in EXTRA[record.name]})
        shown = f"{record.getMessage()} {vars(record)}"
        assert KEY not in shown
        assert SECRET not in shown
        assert record.exc_info is None


def logged_by_a_program(level: str | None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PENSTOCK_LOG"}
    if level is not None:
        environment["PENSTOCK_LOG"] = level
    with serve_in_thread([REFUSED, HELLO]) as server:
        program = (
            "import penstock, sys\n"
            "with penstock.Client(sys.argv[1], api_key='sk-secret') as client:\n"
            "    client.complete({'model': 'm', 'messages': [{'role': 'user', 'content': 'x'}]})\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", program, server.base_url],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert run.stdout == ""
    return run.stderr


@pytest.mark.parametrize(
    ("level", "loggers"),
    [
        (None, set[str]()),
        ("warning", set[str]()),
        ("INFO", {"penstock.retry"}),
        ("debug", {"penstock.retry", "penstock.request", "penstock.connection"}),
        ("loud", {"penstock.retry"}),
    ],
)
def test_the_environment_asks_for_a_quick_look(level: str | None, loggers: set[str]) -> None:
    text = logged_by_a_program(level)
    for logger in EXTRA:
        assert (f" {logger}: " in text) == (logger in loggers)
    assert ("PENSTOCK_LOG" in text) == (level == "loud")
    assert "sk-secret" not in text
    assert SECRET not in text


def test_every_logger_is_in_the_table() -> None:
    assert log.__doc__ is not None
    for name in EXTRA:
        assert f"`{name}`" in log.__doc__
