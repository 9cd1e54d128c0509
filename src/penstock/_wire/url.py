"""URLs: parsed and checked, and the one place where host and port are formatted."""

from __future__ import annotations

import re
import urllib.parse

import msgspec

from .query import Query

__all__ = ["USUAL_PATHS", "BaseURL", "Origin", "has_controls", "is_host"]


# C0, DEL, C1, and Unicode's line ends.
_CONTROL = r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"

# The unreserved characters of a name or an IPv4 address, or an IPv6 address with its zone. RFC
# 3986, 3.2.2, allows more, but no host uses them, and others may take some (a backslash) for the
# end of the host.
_HOST = re.compile(r"[A-Za-z0-9._~-]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._~%-]+)?")
USUAL_PATHS = ("/chat/completions", "/completions", "/models")
"""Paths of most calls, which need no check. No set: what is looked for may not be hashable."""


class Origin(msgspec.Struct, frozen=True):
    """Scheme, host and port of a server or a proxy."""

    scheme: str
    """For instance "https"."""
    host: str
    """A name or an address; an IPv6 address without brackets."""
    port: int
    """From 1 to 65535."""

    @property
    def host_and_port(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """Host and port as in a Host header: without the scheme's default port."""
        default = {"http": 80, "https": 443}.get(self.scheme)
        pair = self.host_and_port
        return pair.rpartition(":")[0] if self.port == default else pair

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_and_port}"


class BaseURL(msgspec.Struct, frozen=True):
    """The URL of a server's API."""

    origin: Origin
    """The server."""
    path: str
    """Path of the API, without a trailing slash."""
    query: Query = Query()
    """What every request's query begins with."""

    @classmethod
    def parse(cls, url: str) -> BaseURL:
        """Parse an absolute http(s) URL. TypeError or ValueError says what is wrong with it."""
        if not isinstance(url, str):
            raise TypeError(f"base_url must be a string, not {type(url).__name__}")
        if not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
            raise ValueError("base_url contains blanks, control or non-ASCII characters")
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError:
            raise ValueError(
                "base_url has a host in brackets that is not an IPv6 address"
            ) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            # The URL is not shown: it may be a key in the wrong place.
            raise ValueError("base_url is not an http(s) URL: it must be like https://host/v1")
        if "@" in parts.netloc:
            raise ValueError("base_url contains a user name or password: pass a key as api_key")
        if not is_host(parts.hostname):
            raise ValueError("base_url has a host with invalid characters")
        if parts.fragment:
            raise ValueError(f"base_url {_shown(parts)!r} cannot have a fragment")
        default = 443 if parts.scheme == "https" else 80
        try:
            port = default if parts.port is None else parts.port
        except ValueError:
            port = 0
        if not port:
            # Nor is the port: a password may stand in its place.
            raise ValueError("base_url has a port outside 1 to 65535")
        origin = Origin(parts.scheme, parts.hostname, port)
        return cls(origin, parts.path.rstrip("/"), Query.parse(parts.query))

    def with_query(self, query: Query) -> BaseURL:
        """Return the same URL with these parameters added to its query, or replaced in it."""
        return BaseURL(self.origin, self.path, self.query.merged(query))

    def target(self, path: str, query: Query = Query()) -> str:  # noqa: B008 - frozen
        """Return the request target for a path below the base, which may have a query itself.

        The base's query comes first, then the path's, then the given one; a later parameter
        replaces earlier ones of its name. TypeError or ValueError if it is not such a path.
        """
        if not isinstance(path, str):
            raise TypeError(f"the path must be a string, not {type(path).__name__}")
        if path in USUAL_PATHS and not (self.query.parts or query.parts):
            return self.path + path  # what follows is 4 % of a whole answer
        if "://" in path.partition("?")[0] or path.startswith("//"):
            raise ValueError("give a path below base_url, not a URL: the key stays with its origin")
        if re.search(r"[\x00-\x20\x7f]", path):
            raise ValueError("the path contains blanks or control characters")
        quoted = urllib.parse.quote(path, safe="/?&=%:@!$'()*+,;~-._")
        below, _, own = quoted.partition("?")
        merged = str(self.query.merged(Query.parse(own)).merged(query))
        return f"{self.path}/{below.lstrip('/')}" + (f"?{merged}" if merged else "")

    # Without the query, which may have a key.
    def __str__(self) -> str:
        return f"{self.origin}{self.path}"


def is_host(text: str) -> bool:
    """Return whether this is a host for a URL: a name or address in ASCII, without brackets."""
    return _HOST.fullmatch(text) is not None


def has_controls(text: str) -> bool:
    """Return whether the text contains control characters or line ends, Unicode's included."""
    return not text.isprintable() and re.search(_CONTROL, text) is not None


def _shown(parts: urllib.parse.SplitResult) -> str:
    # Without a user name and password, even in the wrong place.
    host, path = (part.rpartition("@")[2] for part in (parts.netloc, parts.path))
    return f"{parts.scheme}://{host}{path}" if parts.scheme else path
