"""A bound on how deeply JSON that is kept may be nested.

Python walks nested values by recursion: `pickle`, `copy.deepcopy`, `repr` and the search for
the key in an error fail above some hundred levels, while JSON may be read that goes deeper.
"""

from __future__ import annotations

from typing import Any

from .lenient_values import is_list, is_object

__all__ = ["MAX_DEPTH", "is_too_deep"]

# An error's envelope has 3 to 6 levels. deepcopy takes about four frames a level, and Python
# allows 1000 in all.
MAX_DEPTH = 64


def is_too_deep(payload: Any) -> bool:
    """Whether parsed JSON has more than MAX_DEPTH lists and objects inside each other."""
    level = [payload]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if is_object(value):
                inner += value.values()
            elif is_list(value):
                inner += value
        if not inner:
            return False
        level = inner
    return any(is_object(value) or is_list(value) for value in level)
