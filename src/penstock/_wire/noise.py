"""Members that servers add only to vary the size of a chunk, and what says anything at all."""

from __future__ import annotations

from typing import Any

from .json_values import is_list, is_object

__all__ = ["is_noise", "says_something"]

# OpenAI's obfuscation, Mistral's p.
_NOISE = frozenset({"p", "pad", "padding", "obfuscation"})
_NOISE_PARTS = ("obfuscat", "padding")
# They describe what is said beside them.
_LABELS = frozenset({"format", "index", "object", "role", "type"})


def is_noise(name: str) -> bool:
    """Return whether a member of this name carries nothing of the answer."""
    return name in _NOISE or any(part in name for part in _NOISE_PARTS)


def says_something(members: dict[str, Any]) -> bool:
    """Return whether a member is neither empty nor a label nor noise, at any depth."""
    return any(
        value and name not in _LABELS and not is_noise(name) and _is_something(value)
        for name, value in members.items()
    )


def _is_something(value: Any) -> bool:
    if is_object(value):
        return says_something(value)
    if is_list(value):
        return any(map(_is_something, value))
    return bool(value)
