from __future__ import annotations

import os
import select
import socket

import pytest

from penstock._http.descriptors import (
    MAX_UNSENT,
    fd_is_readable,
    options_here,
    set_options,
    shutdown_fd,
)

from .sockets import reset


@pytest.fixture(params=["poll", "select"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is for platforms that have no poll."""
    if request.param == "select":
        monkeypatch.delattr(select, "poll")


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    return one, other


@pytest.mark.usefixtures("way")
def test_readable_is_whatever_has_come() -> None:
    one, other = tcp_pair()
    with one, other:
        assert not fd_is_readable(one.fileno())
        other.sendall(b"x")
        assert fd_is_readable(one.fileno())
        assert one.recv(1) == b"x"
        assert not fd_is_readable(one.fileno())
        other.shutdown(socket.SHUT_WR)
        assert fd_is_readable(one.fileno())


@pytest.mark.usefixtures("way")
def test_a_reset_is_readable() -> None:
    one, other = tcp_pair()
    with one:
        reset(other)
        assert fd_is_readable(one.fileno())


@pytest.mark.usefixtures("way")
def test_a_closed_descriptor_counts_as_readable() -> None:
    assert fd_is_readable(-1)


def test_shutdown_ends_the_connection_and_leaves_the_descriptor() -> None:
    one, other = tcp_pair()
    with one, other:
        shutdown_fd(one.fileno())
        other.settimeout(5)
        assert other.recv(1) == b""
        os.fstat(one.fileno())


def test_shutdown_of_what_is_no_connection_is_nothing() -> None:
    shutdown_fd(-1)
    with socket.socket() as sock:
        shutdown_fd(sock.fileno())
    read, write = os.pipe()
    shutdown_fd(read)
    os.close(read)
    os.close(write)


def test_keepalive_with_the_timing_of_openai_s_client() -> None:
    with socket.socket() as sock:
        set_options(sock.fileno())
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"):
            if hasattr(socket, name):
                expected = 5 if name == "TCP_KEEPCNT" else 60
                assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == expected
        os.fstat(sock.fileno())  # it is open


def test_what_waits_to_be_sent_is_bounded() -> None:
    with socket.socket() as sock:
        set_options(sock.fileno())
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == MAX_UNSENT


def test_options_of_a_platform_that_has_none_for_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_NOTSENT_LOWAT"):
        monkeypatch.delattr(socket, name, raising=False)
    assert options_here() == [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]


def test_options_of_a_socket_that_has_none_of_tcp() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        set_options(sock.fileno())
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
