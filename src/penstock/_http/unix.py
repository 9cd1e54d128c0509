"""Connecting to a Unix socket, the same under every event loop."""

from __future__ import annotations

import socket

import anyio
import anyio.lowlevel

__all__ = ["connect_unix_socket"]

# Seconds between two attempts while the server's backlog is full: the kernel announces no room.
FIRST_WAIT = 0.001
LONGEST_WAIT = 0.05


async def connect_unix_socket(path: str) -> socket.socket:
    """Return a connected non-blocking socket; wait while the server's backlog is full.

    Waits without a limit: the caller puts a cancel scope with the connect deadline around it.
    Raises OSError; cancelled, it leaves nothing open. (asyncio and trio take the EAGAIN of a
    full backlog for a connection in progress, uvloop for a failure.)
    """
    await anyio.lowlevel.checkpoint_if_cancelled()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    wait = FIRST_WAIT
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                await anyio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                return sock
    except BaseException:
        sock.close()
        raise
