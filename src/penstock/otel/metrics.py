"""The metrics of requests, clients and limiters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from ..observing.events import AttemptFailed, ClientMade, Finished, RequestStarted
from .attributes import answer_attributes, error_type, metric_attributes
from .names import Names

__all__ = ["Metrics"]

T = TypeVar("T")

# Bounds of the histograms' buckets, as the conventions advise.
_SECONDS = [0.01 * 2**power for power in range(14)]
_SHORT_SECONDS = [0.001 * 2**power for power in range(14)]
_TOKENS = [4**power for power in range(14)]


class Metrics:
    """Measures requests when they end; slots and connections when somebody reads the metrics."""

    def __init__(self, meter: Meter, names: Names) -> None:
        self._names = names
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

    def started(self, event: RequestStarted) -> None:
        """A request has begun."""
        self._active.add(1, metric_attributes(event, self._names))

    def retried(self, started: RequestStarted, event: AttemptFailed) -> None:
        """A request will be sent again."""
        attributes = metric_attributes(started, self._names)
        self._retries.add(1, {**attributes, "error.type": error_type(event.error)})

    def finished(self, started: RequestStarted, event: Finished, *, inference: bool) -> None:
        """A request has ended. What a span of somebody else measures is left to it."""
        attributes = metric_attributes(started, self._names)
        self._active.add(-1, attributes)
        if not inference:
            return
        if event.response_model is not None:
            attributes["gen_ai.response.model"] = event.response_model
        outcome = {} if event.error is None else {"error.type": error_type(event.error)}
        self._duration.record(event.time - event.started, {**attributes, **outcome})
        known = answer_attributes(event, self._names)
        for kind in ("input", "output"):
            tokens = known.get(f"gen_ai.usage.{kind}_tokens")
            if tokens is not None:
                self._tokens.record(tokens, {**attributes, "gen_ai.token.type": kind})
        if started.stream and event.statistics.first_token is not None:
            self._first.record(event.statistics.first_token, attributes)
        if event.statistics.gaps.mean is not None:
            self._each.record(event.statistics.gaps.mean, attributes)

    def _connections(self, options: CallbackOptions) -> Iterable[Observation]:
        for client, figures in self._read(lambda client: client.statistics()):
            where = _server(client)
            yield Observation(figures.idle_connections, {**where, "state": "idle"})
            yield Observation(figures.active_connections, {**where, "state": "active"})

    def _slots(self, options: CallbackOptions) -> Iterable[Observation]:
        for client, figures in self._read(lambda client: client.limiter_statistics()):
            where = _server(client)
            yield Observation(figures.in_flight, {**where, "state": "taken"})
            yield Observation(figures.waiting, {**where, "state": "waiting"})

    def _read(self, figures: Callable[[ClientMade], T | None]) -> Iterable[tuple[ClientMade, T]]:
        for client in list(self._clients):
            value = figures(client)
            if value is not None:
                yield client, value


def _server(client: ClientMade) -> dict[str, Any]:
    return {"server.address": client.host, "server.port": client.port}
