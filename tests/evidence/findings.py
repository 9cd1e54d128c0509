"""What the proof has found: findings.toml, a list that is written by hand.

An entry says by what a fault was found, what was wrong, the subject of the commit that fixed it
and the test that keeps it so: its file under tests/, and its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

__all__ = ["FINDINGS", "Finding", "Means", "read"]

FINDINGS = Path(__file__).with_name("findings.toml")
Means = Literal["property", "sweep", "fuzzing", "soak", "mutation", "security tests", "review"]


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault."""

    by: Means
    was: str
    """What was wrong."""
    commit: str
    """The subject of the commit that fixed it."""
    file: str
    test: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    finding: list[Finding]


def read(path: Path = FINDINGS) -> list[Finding]:
    """All of them, in the order in which they were fixed."""
    return msgspec.toml.decode(path.read_bytes(), type=_File).finding
