"""Proxies: which one applies, and how a connection is made through it."""

from __future__ import annotations

import base64
import os
import re
import urllib.parse
from typing import Any

import msgspec

from .._wire.url import Origin, has_controls, is_host

__all__ = [
    "Proxy",
    "proxy_from_environment",
]

# As the environment has bytes that are no UTF-8; a user name has to become bytes again.
_SURROGATE = re.compile("[\ud800-\udfff]")
_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


class Proxy(msgspec.Struct, frozen=True):
    """A proxy server. `socks5` and `socks5h` are the same here: the proxy resolves names."""

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """From `scheme://[user:password@]host[:port]`; ValueError says what is wrong with it."""
        # No message quotes any part of the URL, nor does urlsplit's own come through:
        # where the URL is malformed, any part of it may be the password.
        if " " in url or has_controls(url):
            # urlsplit would drop some of them.
            raise ValueError("the proxy's URL contains blanks or control characters")
        if _SURROGATE.search(url):
            raise ValueError("the proxy's URL contains a lone surrogate: it is not valid Unicode")
        try:
            parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        except ValueError:
            raise ValueError("the proxy's URL cannot be understood") from None
        if parts.scheme not in _DEFAULT_PORTS:
            raise ValueError("the proxy's scheme is none of http, https, socks5 and socks5h")
        if "@" in parts.path + parts.query + parts.fragment:
            raise ValueError(
                "the proxy's URL has an @ behind the host: special characters in a user name"
                " or password have to be percent-encoded"
            )
        try:
            port = parts.port
        except ValueError:
            raise ValueError("the proxy's port is no number from 1 to 65535") from None
        if not parts.hostname:
            raise ValueError("the proxy's URL has no host")
        if not is_host(parts.hostname):
            raise ValueError("the proxy's host has characters that no host has")
        has_user = bool(parts.username or parts.password)
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=port or _DEFAULT_PORTS[parts.scheme],
            username=urllib.parse.unquote(parts.username or "") if has_user else None,
            password=urllib.parse.unquote(parts.password or "") if has_user else None,
        )

    @property
    def is_socks(self) -> bool:
        return self.scheme.startswith("socks")

    @property
    def authorization(self) -> list[tuple[bytes, bytes]]:
        """The header that names the user (RFC 7617), if there is one."""
        if self.username is None:
            return []
        pair = f"{self.username}:{self.password or ''}".encode()
        return [(b"Proxy-Authorization", b"Basic " + base64.b64encode(pair))]

    @property
    def origin(self) -> Origin:
        """Where the proxy is, without its credentials."""
        return Origin(self.scheme, self.host, self.port)

    def __repr__(self) -> str:
        return f"Proxy({self.origin})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec's own, which the rich package prints, has all fields.
        return [("server", str(self.origin))]


def proxy_from_environment(origin: Origin) -> Proxy | None:
    """What HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say for this origin.

    By the standard library's reading of them: lower case wins, NO_PROXY lists host
    suffixes, HTTP_PROXY is ignored under CGI.
    """
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    # Costs 20 ms to import, so only where somebody uses it.
    from urllib.request import getproxies_environment, proxy_bypass

    proxies = getproxies_environment()
    url = proxies.get(origin.scheme) or proxies.get("all")
    if not url or proxy_bypass(f"{origin.host}:{origin.port}"):
        return None
    return Proxy.parse(url.strip())
