"""URLs: where a server's API lives, taken apart and checked."""

from __future__ import annotations

import re
import urllib.parse

import msgspec

__all__ = ["BaseURL", "Origin", "has_controls", "is_host"]


# C0, DEL, C1, and what Unicode has for line ends.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


# A name's or an IPv4 address's unreserved characters, or an IPv6 address with its zone. RFC 3986,
# 3.2.2, has more, but no host has them, and some that are not its own (a backslash) are read by
# others as the host's end.
_HOST = re.compile(r"[A-Za-z0-9._~-]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._~%-]+)?")


class BaseURL(msgspec.Struct, frozen=True):
    """Where a server's API lives, taken apart."""

    scheme: str
    host: str
    port: int
    path: str
    """Without a slash at its end."""

    @classmethod
    def parse(cls, url: str) -> BaseURL:
        """From an absolute http(s) URL; ValueError says what is wrong with it."""
        if not isinstance(url, str):
            raise TypeError(f"base_url has to be a string, not {type(url).__name__}")
        if not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
            raise ValueError("base_url contains blanks, control or non-ASCII characters")
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError:
            raise ValueError("base_url has a host in brackets that is no IPv6 address") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            # It is not shown: it may be a key in the wrong place.
            raise ValueError("base_url is no http(s) URL: it has to be like https://host/v1")
        if "@" in parts.netloc:
            raise ValueError("base_url holds a user name or password: give a key as api_key")
        if not is_host(parts.hostname):
            raise ValueError("base_url has a host with characters that no host has")
        if parts.query or parts.fragment:
            raise ValueError(f"base_url {_shown(parts)!r} cannot have a query or a fragment")
        default = 443 if parts.scheme == "https" else 80
        try:
            port = default if parts.port is None else parts.port
        except ValueError:
            port = 0
        if not port:
            raise ValueError(f"base_url {_shown(parts)!r} has a port that is no number above 0")
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))

    def target(self, path: str) -> str:
        """The request target for a path below the base, with an optional query."""
        if not isinstance(path, str):
            raise TypeError(f"the path has to be a string, not {type(path).__name__}")
        if "://" in path.partition("?")[0] or path.startswith("//"):
            raise ValueError("give a path below base_url, not a URL: the key stays with its origin")
        if re.search(r"[\x00-\x20\x7f]", path):
            raise ValueError("the path contains blanks or control characters")
        quoted = urllib.parse.quote(path, safe="/?&=%:@!$'()*+,;~-._")
        return f"{self.path}/{quoted.lstrip('/')}"


def is_host(text: str) -> bool:
    """Whether it is a host as a URL may have it: a name or address in ASCII, without brackets."""
    return _HOST.fullmatch(text) is not None


def has_controls(text: str) -> bool:
    """Whether a control character or a line's end stands in it, of ASCII or of Unicode."""
    return _CONTROL.search(text) is not None


def _shown(parts: urllib.parse.SplitResult) -> str:
    # Never a user and password, also where they stand in the wrong place.
    host, path = (part.rpartition("@")[2] for part in (parts.netloc, parts.path))
    return f"{parts.scheme}://{host}{path}" if parts.scheme else path


class Origin(msgspec.Struct, frozen=True):
    """Where a server is: scheme (http or https), host (no brackets) and port."""

    scheme: str
    host: str
    port: int

    @property
    def bracketed_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def authority(self) -> str:
        """Host and port as in a Host header: the port only where it is not the scheme's own."""
        default = 443 if self.scheme == "https" else 80
        return self.bracketed_host if self.port == default else f"{self.bracketed_host}:{self.port}"
