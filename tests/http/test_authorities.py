"""The first https request loads the certificate authorities, which takes 15 to 27 ms."""

from __future__ import annotations

import errno
import os
import signal
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from penstock import APIConnectionError, AsyncClient, Client, ConnectTimeout, Timeouts
from penstock._http import tls
from penstock.testing.certificates import client_ssl_context
from penstock.testing.replies import json_reply
from penstock.testing.server import Server, serve, serve_in_thread
from penstock.testing.sweep import open_fds

from .test_tls import ca_pem

pytestmark = pytest.mark.anyio

MODELS = json_reply({"data": []})


class Loads:
    """Stands for the loading: notes its threads, and may be held up or fail."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.error: Exception | None = None

    def __call__(self) -> ssl.SSLContext:
        self.threads.append(threading.current_thread())
        assert self.goes_on.wait(30)
        if self.error is not None:
            raise self.error
        return client_ssl_context()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Loads]:
    loads = Loads()
    monkeypatch.setattr(tls, "default_context", loads)
    # Clients of other tests share other authorities.
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    yield loads
    loads.goes_on.set()


def client_of(server: Server, **options: Any) -> AsyncClient:
    return AsyncClient(server.base_url, proxy="", max_retries=0, **options)


async def held_up(loads: Loads) -> None:
    while not loads.threads:  # noqa: ASYNC110 - set by another thread
        await anyio.lowlevel.checkpoint()


async def test_the_event_loop_runs_on(loads: Loads) -> None:
    loads.goes_on.clear()
    async with (
        serve(MODELS, tls=True) as server,
        client_of(server) as client,
        anyio.create_task_group() as group,
    ):
        group.start_soon(client.models.list)
        await held_up(loads)  # or it would stand still here
        loads.goes_on.set()
    assert threading.current_thread() not in loads.threads


async def test_requests_that_begin_together_load_once(loads: Loads) -> None:
    loads.goes_on.clear()
    async with serve(MODELS, tls=True) as server, client_of(server) as client:
        async with client_of(server) as other, anyio.create_task_group() as group:
            for each in [client, other] * 5:
                group.start_soon(each.models.list)
            group.start_soon(other.warm, 3)
            await held_up(loads)
            loads.goes_on.set()
        await client.models.list()
    assert len(loads.threads) == 1


async def test_warm_up_loads_in_a_thread_too(loads: Loads) -> None:
    async with serve(MODELS, tls=True) as server, client_of(server) as client:
        assert await client.warm(2) == 2
    assert len(loads.threads) == 1
    assert threading.current_thread() not in loads.threads


def test_the_blocking_client_loads_beside_its_loop(loads: Loads) -> None:
    with serve_in_thread(MODELS, tls=True) as server, Client(server.base_url, proxy="") as client:
        client.models.list()
        names = [thread.name for thread in threading.enumerate() if "loop" in thread.name]
    assert len(loads.threads) == 1
    assert loads.threads[0].name not in names
    assert threading.current_thread() not in loads.threads


async def test_the_connect_timeout_counts_and_the_load_is_not_lost(loads: Loads) -> None:
    loads.goes_on.clear()
    async with serve(MODELS, tls=True) as server, client_of(server) as client:
        with pytest.raises(ConnectTimeout):
            await client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "x"}],
                timeouts=Timeouts(connect=0.05),
            )
        with anyio.move_on_after(0.01) as scope:
            await client.models.list()
        assert scope.cancelled_caught
        loads.goes_on.set()
        await client.models.list()
    assert 1 <= len(loads.threads) <= 2  # the second began while the first was held up
    assert threading.current_thread() not in loads.threads


async def test_what_fails_leaves_nothing_open_and_can_be_put_right(
    loads: Loads, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loads.error = OSError(errno.EMFILE, "Too many open files")
    before = open_fds()
    async with serve(MODELS, tls=True) as server, client_of(server) as client:
        with pytest.raises(APIConnectionError, match=r"cannot connect to .*: Too many open files"):
            await client.models.list()
        monkeypatch.undo()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with pytest.raises(APIConnectionError, match=r"SSL_CERT_FILE names .*ca\.pem"):
            await client.models.list()
        (tmp_path / "ca.pem").write_text(ca_pem())
        assert len(await client.models.list()) == 0
    assert open_fds() == before


async def test_without_threads_it_loads_all_the_same(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_sync(*args: object, **options: object) -> object:
        raise RuntimeError("can't start new thread")

    async with serve(MODELS, tls=True) as server, client_of(server) as client:
        with monkeypatch.context() as patched:
            patched.setattr(anyio.to_thread, "run_sync", run_sync)
            await client.models.list()
    assert loads.threads == [threading.current_thread()]


async def test_it_waits_for_no_thread_of_the_program(loads: Loads) -> None:
    # All of them may wait for this very request, as the handlers of a web framework do.
    limiter = anyio.to_thread.current_default_thread_limiter()
    async with serve(MODELS, tls=True) as server, client_of(server) as client:
        for borrower in range(int(limiter.total_tokens)):
            await limiter.acquire_on_behalf_of(borrower)
        await client.models.list()
    assert threading.current_thread() not in loads.threads


def test_clients_share_the_authorities_until_they_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(ca_pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    first = tls.shared_context()
    assert tls.shared_context() is first
    os.utime(path, ns=(1, 1))
    assert tls.shared_context() is not first
    monkeypatch.delenv("SSL_CERT_FILE")
    assert tls.shared_context() is not first


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # that there are threads
def test_a_fork_while_they_are_loaded(loads: Loads) -> None:
    loads.goes_on.clear()
    thread = threading.Thread(target=tls.shared_context)
    thread.start()
    while not loads.threads:
        thread.join(0.001)
    os.register_at_fork(before=loads.goes_on.set)  # the last one that is registered comes first
    child = os.fork()
    if not child:
        signal.alarm(20)  # or it would wait for a lock for ever
        tls.shared_context()
        os._exit(0)
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
