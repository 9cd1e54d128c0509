"""Contexts for TLS in tests: they trust each other, for these names, and nobody else does."""

from __future__ import annotations

import ssl
import sys

import pytest

from penstock.testing import certificates
from penstock.testing.certificates import client_ssl_context, server_ssl_context


def shake_hands(client_context: ssl.SSLContext, host: str) -> ssl.SSLObject:
    """Both sides of a handshake, in memory; gives the client's."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_ssl_context().wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
        if not waiting:
            return client
    raise AssertionError("the handshake does not come to an end")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_clients_context_trusts_the_servers(host: str) -> None:
    client = shake_hands(client_ssl_context(), host)
    assert client.version() == "TLSv1.3"
    assert client.getpeercert()


@pytest.mark.parametrize("host", ["127.0.0.2", "example.org", "localhost.example.org"])
def test_the_certificate_is_for_no_other_host(host: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shake_hands(client_ssl_context(), host)
    assert caught.value.verify_code in (62, 64)  # X509_V_ERR_HOSTNAME_, IP_ADDRESS_MISMATCH


def test_nobody_else_trusts_it() -> None:
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shake_hands(ssl.create_default_context(), "localhost")
    assert caught.value.verify_code in (18, 19, 20)  # self-signed, or no issuer known


def test_they_are_made_once() -> None:
    # A key takes a tenth of a second, and hundreds of servers are started in a run.
    assert server_ssl_context() is server_ssl_context()
    assert client_ssl_context() is client_ssl_context()


def test_without_trustme_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ImportError, match=r"penstock\[testing\]"):
        certificates._authority.__wrapped__()
