"""URLs: parsed and checked, and the one place where host and port are formatted."""

from __future__ import annotations

import re

import msgspec

from .percent import quoted
from .query import Query

__all__ = ["USUAL_PATHS", "BaseURL", "Origin", "has_controls", "is_host", "split_url"]


# C0, DEL, C1, and Unicode's line ends.
_CONTROL = r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"

# The unreserved characters of a name or an IPv4 address, or an IPv6 address with its zone. RFC
# 3986, 3.2.2, allows more, but no host uses them, and others may take some (a backslash) for the
# end of the host.
_HOST = re.compile(r"[A-Za-z0-9._~-]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._~%-]+)?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PORT = "[0-9]{0,9}"
_PARTS = r"(?s)(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?"
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
        default = _DEFAULT_PORTS.get(self.scheme)
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
        scheme, authority, path, query, fragment = split_url(url)
        host, port = _host_and_port(authority.rpartition("@")[2])
        if scheme not in ("http", "https") or not host:
            # The URL is not shown: it may be a key in the wrong place.
            raise ValueError("base_url is not an http(s) URL: it must be like https://host/v1")
        if "@" in authority:
            raise ValueError("base_url contains a user name or password: pass a key as api_key")
        if not is_host(host):
            raise ValueError("base_url has a host with invalid characters")
        if fragment:
            # Without a user name and password, even in the wrong place.
            shown = f"{scheme}://{authority}{path.rpartition('@')[2]}"
            raise ValueError(f"base_url {shown!r} cannot have a fragment")
        number = int(port or _DEFAULT_PORTS[scheme]) if re.fullmatch(_PORT, port) else 0
        if not 0 < number < 65536:
            # Nor is the port: a password may stand in its place.
            raise ValueError("base_url has a port outside 1 to 65535")
        origin = Origin(scheme, host, number)
        return cls(origin, path.rstrip("/"), Query.parse(query))

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
        written = quoted(path, safe="/?&=%:@!$'()*+,;~-._")
        below, _, own = written.partition("?")
        merged = str(self.query.merged(Query.parse(own)).merged(query))
        return f"{self.path}/{below.lstrip('/')}" + (f"?{merged}" if merged else "")

    # Without the query, which may have a key.
    def __str__(self) -> str:
        return f"{self.origin}{self.path}"


def split_url(url: str) -> tuple[str, str, str, str, str]:
    """Return scheme, authority, path, query and fragment of a URL (RFC 3986, appendix B).

    The scheme in lower case, the rest as it is written; "" for what is not there.
    """
    found = re.match(_PARTS, url)
    scheme, authority, path, query, fragment = found.groups("") if found else ("", "", url, "", "")
    return scheme.lower(), authority, path, query, fragment


def _host_and_port(place: str) -> tuple[str, str]:
    """Return the host, in lower case and without brackets, and what is given as its port."""
    if not re.search(r"[\[\]]", place):
        host, _, port = place.partition(":")
        return host.lower(), port
    found = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", place)
    host, port = found.groups("") if found else ("", "")
    from ipaddress import IPv6Address  # a large import

    try:
        IPv6Address(host)
    except ValueError:
        raise ValueError("base_url has a host in brackets that is not an IPv6 address") from None
    address, percent, zone = host.partition("%")
    return address.lower() + percent + zone, port


def is_host(text: str) -> bool:
    """Return whether this is a host for a URL: a name or address in ASCII, without brackets."""
    return _HOST.fullmatch(text) is not None


def has_controls(text: str) -> bool:
    """Return whether the text contains control characters or line ends, Unicode's included."""
    return not text.isprintable() and re.search(_CONTROL, text) is not None
