"""Proxies: their URLs, and which one the environment names."""

from __future__ import annotations

import binascii
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

# The environment has such characters for bytes that are not UTF-8; a user name must be encoded.
_SURROGATE = "[\ud800-\udfff]"
_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


class Proxy(msgspec.Struct, frozen=True):
    """A proxy server. `socks5` and `socks5h` mean the same: the proxy resolves names."""

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Parse `scheme://[user:password@]host[:port]`; ValueError says what is wrong.

        No message quotes any part of the URL, and urlsplit's own messages are dropped: in a
        malformed URL any part may be the password.
        """
        if " " in url or has_controls(url):
            # urlsplit drops some of them.
            raise ValueError("the proxy's URL contains blanks or control characters")
        if re.search(_SURROGATE, url):
            raise ValueError("the proxy's URL contains a lone surrogate: it is not valid Unicode")
        try:
            parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        except ValueError:
            raise ValueError("the proxy's URL cannot be understood") from None
        if parts.scheme not in _DEFAULT_PORTS:
            raise ValueError("the proxy's scheme must be http, https, socks5 or socks5h")
        if "@" in parts.path + parts.query + parts.fragment:
            raise ValueError(
                "the proxy's URL has an @ behind the host: special characters in a user name"
                " or password must be percent-encoded"
            )
        try:
            port = parts.port
        except ValueError:
            raise ValueError("the proxy's port is not a number from 1 to 65535") from None
        if not parts.hostname:
            raise ValueError("the proxy's URL has no host")
        if not is_host(parts.hostname):
            raise ValueError("the proxy's host has characters that a host cannot have")
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
        """The header that names the user (RFC 7617); empty without a user name."""
        if self.username is None:
            return []
        pair = f"{self.username}:{self.password or ''}".encode()
        return [(b"Proxy-Authorization", b"Basic " + binascii.b2a_base64(pair, newline=False))]

    @property
    def origin(self) -> Origin:
        """Where the proxy is, without its credentials."""
        return Origin(self.scheme, self.host, self.port)

    def __repr__(self) -> str:
        return f"Proxy({self.origin})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec's own, which the rich package prints, shows all fields.
        return [("server", str(self.origin))]


def proxy_from_environment(origin: Origin) -> Proxy | None:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name, if any.

    Lower case wins, and HTTP_PROXY is ignored under CGI. See `no_proxy` for NO_PROXY.
    """
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    # Its import takes 20 ms, so only where there is a proxy.
    from urllib.request import getproxies_environment

    from .no_proxy import bypasses_proxy

    proxies = getproxies_environment()
    url = proxies.get(origin.scheme) or proxies.get("all")
    if not url or bypasses_proxy(origin.host, origin.port, proxies.get("no", "")):
        return None
    return Proxy.parse(url.strip())
