"""penstock's figures as ratios to its peers', beside the budgets for them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import msgspec

from .runner import Outcome
from .workloads import WORKLOADS

__all__ = ["PEERS", "Ratio", "Row", "rows"]

PEERS = ("openai", "aiohttp", "pyreqwest", "wreq", "httptools", "raw")


class Budget(msgspec.Struct, frozen=True):
    """What a workload may cost, as a ratio to each peer's, or on top of another workload."""

    openai: float | None = None
    aiohttp: float | None = None
    wreq_on_uvloop: float | None = None
    """Not elsewhere: wreq does its work in threads, outside of the event loop."""
    raw: float | None = None
    raw_on_trio: float | None = None
    """In place of `raw` where both run on trio."""
    extra: float | None = None
    """Microseconds an event more than the workload it is based on."""
    at_most: float | None = None
    """In the workload's own unit."""
    memory: float | None = None
    """The process's memory as a ratio to the OpenAI SDK's."""

    def to(self, peer: str, loop: str) -> float | None:
        """Return the limit of the ratio to this peer."""
        if peer == "raw" and loop == "trio" and self.raw_on_trio is not None:
            return self.raw_on_trio
        name = f"{peer}_on_uvloop" if peer == "wreq" and loop == "uvloop" else peer
        limit: float | None = getattr(self, name, None)
        return limit


BUDGETS = {
    "paced": Budget(openai=1 / 8, aiohttp=1, raw=1.2, raw_on_trio=1.4),
    "drain": Budget(openai=1 / 20, aiohttp=1.6, raw=2.5),
    "fan": Budget(openai=1 / 8, aiohttp=1.2, wreq_on_uvloop=1.2, raw=3),
    # Decrypting costs all clients the same, so these are easier to keep.
    "paced-tls": Budget(aiohttp=1.3, raw=1.6),
    "drain-tls": Budget(aiohttp=1.6, raw=2.5),
    "paced-merged": Budget(extra=1),
    "drain-merged": Budget(extra=2),
    "fan-merged": Budget(extra=2),
    "create": Budget(openai=1 / 3, aiohttp=1.5),
    "models": Budget(openai=1 / 3, aiohttp=1.5),
    "idle": Budget(at_most=10),
    "stalled": Budget(at_most=128),
    "import": Budget(openai=1 / 13, at_most=100, memory=1 / 2),
}


class Ratio(msgspec.Struct, frozen=True):
    """A value and what it may be at most; either may be missing."""

    value: float | None
    limit: float | None

    @property
    def kept(self) -> bool:
        return self.value is None or self.limit is None or self.value <= self.limit


class Row(msgspec.Struct, frozen=True):
    """One workload on one event loop."""

    outcome: Outcome
    to_peers: dict[str, Ratio]
    others: dict[str, Ratio]
    """Those of its budgets that are no ratios to a peer's figure, by what they say."""


class Figures:
    """The medians, by workload and client."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self._by_key = {(outcome.workload, outcome.client): outcome for outcome in outcomes}

    def median(self, workload: str, client: str) -> float | None:
        outcome = self._by_key.get((workload, client))
        return None if outcome is None else outcome.median

    def ratio(self, workload: str, client: str, peer: str) -> float | None:
        ours, theirs = self.median(workload, client), self.median(workload, peer)
        return ours / theirs if ours is not None and theirs else None

    def memory_ratio(self, workload: str, client: str, peer: str) -> float | None:
        ours, theirs = self._memory(workload, client), self._memory(workload, peer)
        return ours / theirs if ours and theirs else None

    def _memory(self, workload: str, client: str) -> float:
        outcome = self._by_key.get((workload, client))
        if outcome is None or not outcome.runs:
            return 0.0
        return statistics.median(result.peak for result in outcome.runs)

    def extra(self, workload: str, client: str) -> float | None:
        """Microseconds an event more than the workload below."""
        ours = self._by_key.get((workload, client))
        base = self.median(WORKLOADS[workload].base, client)
        if ours is None or base is None:
            return None
        run = ours.runs[0]
        per_event = 1 if ours.unit == "us/event" else run.events / run.requests
        return (ours.median - base) / per_event

    def peer(self, workload: str, client: str, peer: str) -> str:
        """The peer on the same event loop, if it was measured there."""
        loop = client.partition("@")[2]
        same = f"{peer}@{loop}"
        return same if loop and self.median(workload, same) is not None else peer


def rows(outcomes: Sequence[Outcome]) -> Iterator[Row]:
    """One for each outcome of penstock."""
    figures = Figures(outcomes)
    for outcome in outcomes:
        workload, client = outcome.workload, outcome.client
        if client.partition("@")[0] != "penstock":
            continue
        budget = BUDGETS.get(workload, Budget())
        loop = client.partition("@")[2]
        to_peers = {
            peer: Ratio(
                figures.ratio(workload, client, figures.peer(workload, client, peer)),
                budget.to(peer, loop),
            )
            for peer in PEERS
        }
        others = (
            ("on top, us/event", figures.extra(workload, client), budget.extra),
            ("absolute", figures.median(workload, client), budget.at_most),
            ("memory / openai", figures.memory_ratio(workload, client, "openai"), budget.memory),
        )
        yield Row(
            outcome, to_peers, {name: Ratio(value, limit) for name, value, limit in others if limit}
        )
