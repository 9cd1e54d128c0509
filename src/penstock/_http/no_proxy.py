"""NO_PROXY: for which hosts no proxy is used, read as curl reads it.

Entries are separated by commas or blanks:

- `example.com`, `.example.com` and `*.example.com`: this domain and all its subdomains;
- `192.0.2.1`, `::1`, `[::1]`: this address;
- `10.0.0.0/8`, `fd00::/8`: the addresses of this network;
- any of these with a port, `example.com:8080` or `[::1]:8080`: for this port alone;
- `*`: every host.

Case and a dot at the end of a name do not matter. An entry that is none of these matches
nothing. Names are not resolved, so a network never matches a name.
"""

from __future__ import annotations

import ipaddress
import re

__all__ = ["bypasses_proxy"]

# [address] or [address]/bits or [address]:port, or a form without brackets.
_BRACKETED = re.compile(r"\[([^\]]*)\](/[0-9]+)?(?::([0-9]+))?")
_BARE = re.compile(r"([^:]*)(?::([0-9]+))?")


def bypasses_proxy(host: str, port: int, no_proxy: str) -> bool:
    """Return True if an entry of `no_proxy` matches; `host` is a name, or an address without []."""
    name = host.lower().rstrip(".")
    address = _address(name)
    for entry in no_proxy.lower().replace(",", " ").split():
        if entry == "*":
            return True
        pattern, wanted_port = _split_port(entry)
        if wanted_port is not None and wanted_port != port:
            continue
        if address is None:
            if _is_in_domain(name, pattern):
                return True
        elif _is_in_network(address, pattern):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    if match := _BRACKETED.fullmatch(entry):
        pattern, port = match[1] + (match[2] or ""), match[3]
    elif match := _BARE.fullmatch(entry):
        pattern, port = match[1], match[2]
    else:
        # More than one colon: an IPv6 address, which has a port only behind brackets.
        pattern, port = entry, None
    return pattern, None if port is None else int(port)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _is_in_domain(name: str, pattern: str) -> bool:
    domain = pattern.removeprefix("*").removeprefix(".").rstrip(".")
    return bool(domain) and (name == domain or name.endswith(f".{domain}"))


def _is_in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, pattern: str) -> bool:
    try:
        # Not strict: as in curl, only the bits of the prefix count.
        return address in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return False
