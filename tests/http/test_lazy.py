from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import ModuleType

import pytest

from penstock._http import lazy

# Names that the package takes from it; httpcore2 has to have them, too.
NAMES = [
    "AsyncHTTP11Connection",
    "AsyncNetworkBackend",
    "AsyncNetworkStream",
    "ProtocolError",
    "RemoteProtocolError",
    "Request",
    "TimeoutException",
    "URL",
]


def load_again() -> ModuleType:
    spec = importlib.util.spec_from_file_location("penstock._http.lazy_again", lazy.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("missing", [None, "httpcore"])
def test_httpcore_or_its_continuation(missing: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = lazy.httpcore.__name__
    if missing is not None:
        if importlib.util.find_spec("httpcore2") is None:
            return
        monkeypatch.setitem(sys.modules, missing, None)
        expected = "httpcore2"
    chosen = load_again().httpcore
    assert chosen.__name__ == expected
    for name in NAMES:
        assert hasattr(chosen, name), name


def test_importing_penstock_loads_nothing_that_does_io() -> None:
    code = (
        "import sys, penstock; "
        "print(*sorted({'httpcore', 'httpcore2', 'h11', 'trio', 'ssl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == ""


FIRST_REQUEST = """
import sys, anyio, time
from penstock import AsyncClient
NAMES = {"httpcore", "httpcore2"}
assert not NAMES & sys.modules.keys()
backend = sys.argv[1]

async def main():
    longest = 0.0
    done = False

    async def watch():
        nonlocal longest
        while not done:
            before = time.monotonic()
            await anyio.sleep(0.001)
            longest = max(longest, time.monotonic() - before)

    async def request(client):
        try:
            await client.models.list()
        except Exception as error:
            assert "cannot connect" in str(error), error

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        async with AsyncClient("http://127.0.0.1:1/v1", max_retries=0) as client:
            async with anyio.create_task_group() as inner:
                for _ in range(50):
                    inner.start_soon(request, client)
        done = True
    assert NAMES & sys.modules.keys()

import threading
if sys.argv[2] == "threads":
    from penstock._http import lazy
    real = lazy.load
    where = []
    def load():
        where.append(threading.current_thread() is threading.main_thread())
        return real()
    lazy.load = load
    anyio.run(main, backend=backend)
    assert where == [False], where
else:
    import builtins, errno
    from penstock._http import lazy
    def load():
        raise OSError(errno.EMFILE, "Too many open files")
    real, lazy.load = lazy.load, load

    async def fails():
        async with AsyncClient("http://127.0.0.1:1/v1", max_retries=0) as client:
            from penstock import APIConnectionError
            try:
                await client.models.list()
            except APIConnectionError as error:
                assert "Too many open files" in str(error)
            else:
                raise AssertionError
            lazy.load = real
            try:
                await client.models.list()
            except APIConnectionError as error:
                assert "cannot connect" in str(error), error
    anyio.run(fails, backend=backend)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("what", ["threads", "no descriptors"])
def test_the_first_request_loads_it_off_the_event_loop(backend: str, what: str) -> None:
    subprocess.run(
        [sys.executable, "-W", "error", "-c", FIRST_REQUEST, backend, what], check=True, timeout=60
    )
