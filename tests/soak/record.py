"""What runs have come to, in one file that adds up."""

from __future__ import annotations

import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import msgspec

__all__ = ["Memory", "Run", "add"]


class Memory(msgspec.Struct, frozen=True):
    """Of the client's process, in bytes; blocks are the interpreter's."""

    first: int
    """Median of the first third of the checkpoints."""
    last: int
    """Median of the last third."""
    peak: int
    blocks_first: int
    blocks_last: int


class Run(msgspec.Struct, frozen=True):
    """One run."""

    backend: str
    seed: int
    seconds: float
    checkpoints: int
    operations: int
    requests: int
    """That the client was asked for."""
    sent: int
    """That reached the server, further attempts included."""
    connections: int
    outcomes: dict[str, int]
    faults: dict[str, int]
    """What the server did, by kind."""
    ways: dict[str, int]
    disturbances: dict[str, int]
    memory: Memory
    descriptors: tuple[int, int]
    """The fewest and the most at a checkpoint."""
    cpu: float
    """Cores that client and server took together, on average."""
    violations: list[str]
    loops: int = 0
    """Event loops that were started in threads."""
    threads: int = 0
    """Operations that were performed in threads."""
    generators: int = 0
    """Generators of the user's around a fan-out."""
    uploads: int = 0
    """Large requests that were answered early, or not at all."""
    half_dead: int = 0
    """Idle connections that the server has reset or ended."""
    signals: int = 0
    """Interruptions at random instants."""
    forks: int = 0


class Record(msgspec.Struct):
    """All runs and their sums."""

    seconds: float = 0.0
    requests: int = 0
    sent: int = 0
    outcomes: dict[str, int] = msgspec.field(default_factory=dict)
    violations: int = 0
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    runs: list[Run] = msgspec.field(default_factory=list)


def add(run: Run, path: Path) -> Record:
    """Add a run to the file."""
    record = msgspec.json.decode(path.read_bytes(), type=Record) if path.exists() else Record()
    record.runs.append(run)
    record.seconds = round(sum(run.seconds for run in record.runs), 1)
    record.requests = sum(run.requests for run in record.runs)
    record.sent = sum(run.sent for run in record.runs)
    record.violations = sum(len(run.violations) for run in record.runs)
    outcomes: Counter[str] = Counter()
    for each in record.runs:
        outcomes.update(each.outcomes)
    record.outcomes = dict(outcomes.most_common())
    record.environment = {
        "python": platform.python_version(),
        "system": platform.system(),
        **{name: version(name) for name in ("anyio", "httpcore", "msgspec", "trio", "uvloop")},
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return record
