"""Ids for tool calls that came without one."""

from __future__ import annotations

import os

__all__ = ["new_call_id"]

_SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_LENGTH = 9


def new_call_id() -> str:
    """Return a random id: 9 letters and digits, which is the only form that Mistral accepts."""
    # 62 is not a divisor of 256; the slight preference does not matter here.
    return "".join(_SIGNS[byte % len(_SIGNS)] for byte in os.urandom(_LENGTH))
