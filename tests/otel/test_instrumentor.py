"""Instrumentation of a whole process, found by its entry point."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest

from penstock.otel import Instrumentor
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_reply, tokens
from tests.support.chat import REQUEST, client_on

from .recording import Recording

__all__ = ["anyio_backend"]

HELLO = sse_reply(tokens("Hello"))
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def test_it_is_found() -> None:
    [found] = [
        each for each in entry_points(group="opentelemetry_instrumentor") if each.name == "penstock"
    ]
    assert found.load() is Instrumentor
    assert list(Instrumentor().instrumentation_dependencies()) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("variable", "option", "content"),
    [
        (None, None, False),
        ("true", None, True),
        ("SPAN_ONLY", None, True),
        ("no_content", None, False),
        ("true", False, False),
        (None, True, True),
    ],
)
async def test_every_client_made_meanwhile_is_observed_once(
    variable: str | None, option: bool | None, content: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is None:
        monkeypatch.delenv(CAPTURE, raising=False)
    else:
        monkeypatch.setenv(CAPTURE, variable)
    recording = Recording()
    options: dict[str, Any] = {
        "tracer_provider": recording.tracers,
        "meter_provider": recording.meters,
        "content": option,
        "skip_dep_check": True,
    }
    try:
        for _ in range(2):
            Instrumentor().instrument(**options)
        assert Instrumentor().is_instrumented_by_opentelemetry
        async with client_on(MemoryNetwork(HELLO)) as client:
            await client.complete(REQUEST)
    finally:
        Instrumentor().uninstrument()
        Instrumentor().uninstrument()
    assert not Instrumentor().is_instrumented_by_opentelemetry
    async with client_on(MemoryNetwork(HELLO)) as client:
        await client.complete(REQUEST)
    assert ("Hello" in recording.one().to_json()) == content


def test_without_the_extra_it_says_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "import penstock\n"
        "try:\n"
        "    import penstock.otel\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "penstock[otel]" in run.stdout
