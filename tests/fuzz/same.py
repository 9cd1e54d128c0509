"""Equality of parsed JSON in which NaN equals itself, and 1, 1.0 and true differ."""

from __future__ import annotations

from typing import Any


def same(one: Any, other: Any) -> bool:
    # No recursion: a decoder may go deeper than Python's stack.
    ahead = [(one, other)]
    while ahead:
        left, right = ahead.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, dict):
            if list(left) != list(right):
                return False
            ahead += [(left[name], right[name]) for name in left]
        elif isinstance(left, list):
            if len(left) != len(right):
                return False
            ahead += zip(left, right, strict=True)
        elif left != right and not (left != left and right != right):
            return False
    return True
