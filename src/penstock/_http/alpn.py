"""The protocol that TLS agrees on (ALPN, RFC 7301)."""

from __future__ import annotations

from .network import ConnectionFailed

__all__ = ["HTTP11", "check_protocol"]

HTTP11 = "http/1.1"


def check_protocol(selected: str | None) -> None:
    """Raise ConnectionFailed if the server selected a protocol other than HTTP/1.1."""
    if selected not in (None, HTTP11, "http/1.0"):
        raise ConnectionFailed(
            f"the server selected the protocol {selected}, which your ssl_context offers:"
            " penstock speaks HTTP/1.1, so offer that one alone,"
            ' context.set_alpn_protocols(["http/1.1"])',
            permanent=True,
        )
