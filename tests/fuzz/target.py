"""What a fuzz target is, and where the targets are found."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

NAMES = (
    "chunked",
    "framing",
    "encoding",
    "exchange",
    "sse",
    "decode",
    "errors",
    "completion",
    "tool_calls",
    "members",
    "request",
    "retry",
    "structured",
    "schema",
)
CORPUS = Path(__file__).parent / "corpus"


class Target(NamedTuple):
    """A property of any bytes, and help for finding those that break it."""

    check: Callable[[bytes], None]
    """Raises when the property does not hold."""
    seeds: Sequence[bytes] = ()
    """Inputs to begin with."""
    words: Sequence[bytes] = ()
    """What is worth putting into an input."""
    max_length: int = 1024


def load(name: str) -> Target:
    target = importlib.import_module(f"tests.fuzz.targets.{name}").TARGET
    assert isinstance(target, Target)
    return target


def kept_inputs(name: str) -> list[Path]:
    """The inputs that earlier runs found worth keeping."""
    return sorted((CORPUS / name).glob("*"))
