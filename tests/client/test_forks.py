"""A forked process that drops its copies leaves the parent's connections alone, of every kind."""

from __future__ import annotations

import os

import pytest

from tests.support.blocking import run_program

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PROGRAM = """
import signal, warnings
import anyio, anyio.from_thread
from tests.support.httpcore_compat import httpcore
from penstock.testing import Repeat, serve, sse_event, sse_reply, text_reply, tokens

warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
tls, network, backend = sys.argv[2] == "tls", sys.argv[3] == "network", sys.argv[4]
ENDLESS = sse_reply([Repeat(sse_event(tokens("x")[0]), every=0.002)], done=False)

def script(request):
    return ENDLESS if "endless" in request.json else text_reply("Hello")

async def main():
    client = penstock.AsyncClient(
        server.base_url,
        api_key="k",
        proxy="",
        ssl_context=server.client_ssl_context() if tls else None,
        network=httpcore.AnyIOBackend() if network else None,
    )
    await client.complete(R)
    stream = client.chat.completions.stream(**R, endless=True)
    await anext(stream)
    await client.complete(R)  # and an idle connection
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        code = 1
        try:
            warnings.simplefilter("ignore", ResourceWarning)
            if sys.argv[5] == "closes":
                client.close()
            del stream, client
            gc.collect()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    for _ in range(20):
        await anext(stream)
    await stream.aclose()
    used = len(server.connections)
    answer = await client.complete(R)
    assert answer.text == "Hello", answer
    assert len(server.connections) == used, "the idle connection was closed"
    await client.aclose()

with (
    anyio.from_thread.start_blocking_portal() as portal,
    portal.wrap_async_context_manager(serve(script, tls=tls)) as server,
):
    name, options = ("asyncio", {"use_uvloop": True}) if backend == "uvloop" else (backend, {})
    anyio.run(main, backend=name, backend_options=options)
"""


@pytest.mark.parametrize(
    ("transport", "network", "backend", "how"),
    [
        ("tls", "own", "asyncio", "drops"),
        ("tls", "own", "uvloop", "closes"),
        ("tcp", "network", "asyncio", "closes"),
        ("tls", "network", "trio", "drops"),
    ],
)
def test_the_parents_connections_go_on(
    transport: str, network: str, backend: str, how: str
) -> None:
    code, _, errors = run_program(PROGRAM, "-", transport, network, backend, how, timeout=60)
    assert code == 0, errors
    assert "Traceback" not in errors, errors
