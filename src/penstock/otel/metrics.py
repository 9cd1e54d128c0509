"""The metrics of requests, clients and limiters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from ..observing.events import AttemptFailed, ClientMade, Finished
from .attributes import Attributes, error_type

__all__ = ["Metrics"]

T = TypeVar("T")
_Counts = Counter[tuple[str, int]]  # by host and port

# Bounds of the histograms' buckets, as the conventions advise.
_SECONDS = [0.01 * 2**power for power in range(14)]
_SHORT_SECONDS = [0.001 * 2**power for power in range(14)]
_TOKENS = [4**power for power in range(14)]


class Metrics:
    """Measures requests when they end; slots and connections when somebody reads the metrics."""

    def __init__(self, meter: Meter) -> None:
        self._clients: list[ClientMade] = []
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "Duration of a request, retries and the reading of a stream included.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens of a request, by gen_ai.token.type.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._first = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "Time to the first token of a stream.",
            explicit_bucket_boundaries_advisory=_SHORT_SECONDS,
        )
        self._each = meter.create_histogram(
            "gen_ai.client.operation.time_per_output_chunk",
            "s",
            "Mean time between the reads that brought tokens of a stream.",
            explicit_bucket_boundaries_advisory=_SHORT_SECONDS,
        )
        self._retries = meter.create_counter(
            "penstock.client.retries", "{retry}", "Requests that were sent again, by error.type."
        )
        self._active = meter.create_up_down_counter(
            "penstock.client.active_requests", "{request}", "Requests that have not ended."
        )
        meter.create_observable_gauge(
            "penstock.client.connections",
            [self._connections],
            "{connection}",
            "Connections of clients, by state: idle or active.",
        )
        meter.create_observable_gauge(
            "penstock.limiter.slots",
            [self._slots],
            "{slot}",
            "Slots of limiters taken now, and requests that wait for one, by state.",
        )

    def client_made(self, event: ClientMade) -> None:
        """Read this client's figures from now on, until it is gone."""
        self._clients = [each for each in self._clients if each.statistics() is not None]
        self._clients.append(event)

    def started(self, labels: Attributes) -> None:
        """A request has begun. `labels`: what all its measurements have."""
        self._active.add(1, labels)

    def retried(self, labels: Attributes, event: AttemptFailed) -> None:
        """A request will be sent again."""
        self._retries.add(1, {**labels, "error.type": error_type(event.error)})

    def finished(
        self, labels: Attributes, event: Finished, answered: Attributes, *, stream: bool
    ) -> None:
        """An inference has ended; `answered` are the attributes of its answer."""
        attributes = labels
        if event.response_model is not None:
            attributes = {**labels, "gen_ai.response.model": event.response_model}
        outcome = attributes
        if event.error is not None:
            outcome = {**attributes, "error.type": error_type(event.error)}
        self._duration.record(event.time - event.started, outcome)
        for kind in ("input", "output"):
            tokens = answered.get(f"gen_ai.usage.{kind}_tokens")
            if tokens is not None:
                self._tokens.record(tokens, {**attributes, "gen_ai.token.type": kind})
        if stream and event.statistics.first_token is not None:
            self._first.record(event.statistics.first_token, attributes)
        if event.statistics.gaps.mean is not None:
            self._each.record(event.statistics.gaps.mean, attributes)

    def ended(self, labels: Attributes) -> None:
        """A request of any kind has ended."""
        self._active.add(-1, labels)

    def _connections(self, options: CallbackOptions) -> Iterable[Observation]:
        idle: _Counts = Counter()
        active: _Counts = Counter()
        for client, figures in self._read(lambda client: client.statistics()):
            idle[client.host, client.port] += figures.idle_connections
            active[client.host, client.port] += figures.active_connections
        yield from _observations(idle, "idle")
        yield from _observations(active, "active")

    def _slots(self, options: CallbackOptions) -> Iterable[Observation]:
        taken: _Counts = Counter()
        waiting: _Counts = Counter()
        seen: set[tuple[int | None, str, int]] = set()
        for client, figures in self._read(lambda client: client.limiter_statistics()):
            # Clients of one server may share a limiter. One of several servers counts at each.
            key = client.limiter, client.host, client.port
            if key not in seen:
                seen.add(key)
                taken[client.host, client.port] += figures.in_flight
                waiting[client.host, client.port] += figures.waiting
        yield from _observations(taken, "taken")
        yield from _observations(waiting, "waiting")

    def _read(self, figures: Callable[[ClientMade], T | None]) -> Iterable[tuple[ClientMade, T]]:
        for client in list(self._clients):
            value = figures(client)
            if value is not None:
                yield client, value


def _observations(counts: _Counts, state: str) -> Iterable[Observation]:
    """Yield one for each server: of several with the same attributes an SDK keeps only one."""
    for (host, port), count in counts.items():
        yield Observation(count, {"server.address": host, "server.port": port, "state": state})
