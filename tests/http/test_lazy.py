from __future__ import annotations

import importlib.util
import os
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


# What a client needs only in cases that most programs never meet: each is a large import.
RARE = {
    "certifi", "csv", "email", "h11", "h2", "html", "http", "httpcore", "httpcore2", "idna",
    "importlib.metadata", "importlib.resources", "pathlib", "penstock._client.spread",
    "penstock._http.foreign_stream", "penstock._http.tunnel", "penstock._limiter.limiter",
    "penstock._local", "penstock._policy.servers", "penstock._typed.partial_json",
    "penstock.observing.events", "penstock.structured", "shutil",
    "socksio", "tempfile", "trio", "urllib.request", "zipfile",
}  # fmt: skip
# What every event loop imports, and a client without one does not need.
LOOPS = {"asyncio", "logging", "selectors", "socket", "ssl"}
# On CPython 3.12 there are 221, of which 114 are penstock's.
MODULES = 230


def imports(code: str, *arguments: str) -> list[str]:
    """Return what the code prints, in an interpreter that has no module of `site`."""
    whole = f"import sys; sys.path[:] = {sys.path!r}; RARE = {RARE!r}; LOOPS = {LOOPS!r}\n{code}"
    command = [sys.executable, "-S", "-W", "error", "-c", whole, *arguments]
    # As users have it, also where the tests run with httpcore for every head.
    usual = {name: value for name, value in os.environ.items() if name != "PENSTOCK_HTTP11"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=usual)
    assert not done.stderr
    return done.stdout.split()


CREATED = """
before = set(sys.modules)
import penstock
client = penstock.AsyncClient("https://api.test/v1", api_key="key")
new = set(sys.modules) - before
print(*sorted((RARE | LOOPS) & new), len(new))
"""


def test_a_client_loads_nothing_that_it_may_never_need() -> None:
    *rare, count = imports(CREATED)
    assert rare == []
    assert int(count) < MODULES


ANSWERED = """
import asyncio
import penstock

PLAIN = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%b"
CHUNK = b'{"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}'
STREAM = b"data: %b\\n\\ndata: [DONE]\\n\\n" % CHUNK

class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):  # each request is small, and comes at once
        body = STREAM if data.startswith(b"POST") else b'{"data":[]}'
        self.transport.write(PLAIN % (len(body), body))

async def main():
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    url = "http://127.0.0.1:%d/v1" % server.sockets[0].getsockname()[1]
    async with penstock.AsyncClient(url) as client:
        await client.models.list()
        answer = await client.complete(model="m", messages=[{"role": "user", "content": "?"}])
        assert answer.text == "x"
    server.close()

asyncio.run(main())
print(*sorted(RARE & set(sys.modules)))
"""


def test_the_first_requests_load_neither_httpcore_nor_trio() -> None:
    assert imports(ANSWERED) == []


UNDER_TRIO = """
import socket, threading
import trio
import penstock

CHUNK = b'{"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}'
STREAM = b"data: %b\\n\\ndata: [DONE]\\n\\n" % CHUNK
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(STREAM)
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
listener = socket.create_server(("127.0.0.1", 0))

def serve():
    while True:
        threading.Thread(target=answer, args=[listener.accept()[0]]).start()

def answer(sock):
    with sock:
        while sock.recv(65536):
            sock.sendall(HEAD + STREAM)

async def main():
    url = "http://localhost:%d/v1" % listener.getsockname()[1]
    limiter = penstock.Limiter(2)
    async with penstock.AsyncClient(url, limiter=limiter) as client:
        assert (await client.complete(REQUEST)).text == "x"
        async with penstock.fan_out(client.complete, [REQUEST] * 2, limit=2) as results:
            async for result in results:
                assert result.unwrap().text == "x"

threading.Thread(target=serve, daemon=True).start()
trio.run(main)
print(*sorted({"asyncio"} & set(sys.modules)))
"""


def test_under_trio_nothing_loads_asyncio() -> None:
    assert imports(UNDER_TRIO) == []


FIRST_REQUEST = """
import sys, anyio, time
from penstock import AsyncClient
NAMES = {"httpcore", "httpcore2"}
PROXY = "http://127.0.0.1:1"  # a tunnel is made by httpcore
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
        async with AsyncClient("https://api.test/v1", max_retries=0, proxy=PROXY) as client:
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
        async with AsyncClient("https://api.test/v1", max_retries=0, proxy=PROXY) as client:
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
def test_the_first_tunnel_loads_it_off_the_event_loop(backend: str, what: str) -> None:
    subprocess.run(
        [sys.executable, "-W", "error", "-c", FIRST_REQUEST, backend, what], check=True, timeout=60
    )


ODD_HEAD = """
import threading
import anyio
from anyio.lowlevel import checkpoint
from penstock import AsyncClient
from penstock._http import lazy

HEAD = b"HTTP/1.1 200 OK\\r\\n", b"Content-Length: 11\\r\\n\\r\\n", b'{"data":[]}'
real, threads = lazy.load, []

def load():
    threads.append(threading.current_thread() is threading.main_thread())
    return real()

lazy.load = load

async def serve(stream):
    async with stream:
        await stream.receive()
        assert not threads
        for piece in HEAD:
            await stream.send(piece)
            while not threads:
                await checkpoint()
        await stream.receive()

async def main():
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    host, port = listener.listeners[0].extra(anyio.abc.SocketAttribute.local_address)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        async with AsyncClient(f"http://{host}:{port}/v1") as client:
            assert len(await client.models.list()) == 0
        group.cancel_scope.cancel()

anyio.run(main, backend=sys.argv[1])
print(*threads)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_first_head_in_pieces_loads_it_off_the_event_loop(backend: str) -> None:
    assert imports(ODD_HEAD, backend) == ["False"]


FORKED = """
import concurrent.futures.thread, os, signal, threading, warnings
from penstock import AsyncClient  # and all else that has locks of its own at a fork
from penstock._http import lazy

warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads
AsyncClient("http://api.test/v1")

began, forking = threading.Event(), threading.Event()

class Finder:  # the import goes on as soon as the fork begins
    def find_spec(self, name, path=None, target=None):
        if name in ("httpcore", "httpcore2") and not began.is_set():
            began.set()
            forking.wait()

sys.meta_path.insert(0, Finder())
thread = threading.Thread(target=lazy.load)
thread.start()
began.wait()
os.register_at_fork(before=forking.set)
child = os.fork()
if not child:
    signal.alarm(20)
    lazy.load()
    os._exit(0)
thread.join()
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_fork_while_another_thread_imports_httpcore() -> None:
    assert imports(FORKED) == ["0"]
