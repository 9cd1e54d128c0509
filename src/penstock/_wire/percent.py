"""Percent-encoding (RFC 3986, 2.1), with the results of `urllib.parse`.

The import of that, which imports `ipaddress`, were 4 % of a first client.
"""

from __future__ import annotations

import re

__all__ = ["quoted", "unquoted", "unquoted_plus"]

_UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_ESCAPES = "(?:%[0-9A-Fa-f]{2})+"


def quoted(text: str, safe: str = "") -> str:
    """Return the text with every character encoded that is neither unreserved nor in `safe`.

    UnicodeEncodeError if it has a lone surrogate.
    """
    kept = _UNRESERVED + safe
    return "".join(char if char in kept else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())


def unquoted(text: str) -> str:
    """Return the text decoded; U+FFFD stands for what is not UTF-8."""
    return re.sub(_ESCAPES, _decoded, text)


def _decoded(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "replace")


def unquoted_plus(text: str) -> str:
    """Return the name or value of a query's parameter decoded: a plus sign is a blank there."""
    return unquoted(text.replace("+", " "))
