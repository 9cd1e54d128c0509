"""Sockets and tasks are remembered with the line that opened them, as long as asked."""

from __future__ import annotations

import os
import socket

import anyio
import anyio.lowlevel
import pytest

from penstock.testing.openings import Openings, open_sockets, running_loop
from penstock.testing.stacks import describe


def test_without_an_event_loop() -> None:
    assert running_loop() is None
    openings = Openings()
    openings.start()
    with socket.socket() as sock:
        (opened,) = openings.sockets
        assert opened == (sock.fileno(), os.fstat(sock.fileno()).st_ino)
        assert opened in open_sockets()
        assert "with socket.socket() as sock" in describe(openings.sockets[opened])
        openings.stop()
        with socket.socket():
            pass
    assert list(openings.sockets) == [opened]
    assert opened not in open_sockets()


def test_where_sockets_are_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def fstat(descriptor: int) -> os.stat_result:
        raise OSError(9, "as on Windows")

    openings = Openings()
    openings.start()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", fstat)
        patched.setattr(os.path, "isdir", lambda path: False)
        with socket.socket():
            found = open_sockets()
    openings.stop()
    assert found == set()
    assert not openings.sockets


def test_a_descriptor_that_is_used_again_is_another_socket() -> None:
    before = open_sockets()
    with socket.socket() as sock:
        (one,) = open_sockets() - before
        assert one[0] == sock.fileno()
    with socket.socket() as sock:
        (two,) = open_sockets() - before
        assert two[0] == sock.fileno()
    if one[0] == two[0] and one[1]:  # macOS numbers no sockets
        assert one != two


@pytest.mark.anyio
async def test_tasks_are_forgotten_when_they_are_gone() -> None:
    assert running_loop() is not None
    openings = Openings()
    openings.start()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)  # the one
        (stack,) = openings.tasks.values()
        assert "# the one" in describe(stack)
        openings.stop()
        group.start_soon(anyio.sleep_forever)
        await anyio.lowlevel.checkpoint()
        assert len(openings.tasks) == 1
        group.cancel_scope.cancel()
