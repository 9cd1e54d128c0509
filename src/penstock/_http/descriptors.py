"""What is done with a socket's file descriptor, whichever event loop owns it."""

from __future__ import annotations

import contextlib
import os
import select
import socket

__all__ = ["enable_keepalive", "fd_is_readable", "shutdown_fd"]


# Seconds of silence after which the kernel probes whether the peer is still there, as
# OpenAI's own client sets them: streams may be silent for minutes behind a NAT.
KEEPALIVE_IDLE = 60


KEEPALIVE_INTERVAL = 60


KEEPALIVE_PROBES = 5


def fd_is_readable(fd: int) -> bool:
    """Whether the descriptor has bytes, an end or an error waiting; one system call."""
    if fd < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([fd], [], [], 0)[0])


def shutdown_fd(fd: int) -> None:
    """Tell the peer that this connection is over, whoever owns the descriptor."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


def enable_keepalive(sock: socket.socket) -> None:
    """Have the kernel notice a peer that vanished, as far as the platform has the options."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
            ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
            ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
