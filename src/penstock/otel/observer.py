"""The observer that makes spans and measurements of a client's requests."""

from __future__ import annotations

from typing import Any

from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from .._version import __version__
from ..observing.events import (
    AttemptFailed,
    ClientMade,
    Finished,
    FirstToken,
    GroupFinished,
    GroupStarted,
    RequestStarted,
    ResponseStarted,
)
from .attributes import (
    INFERENCE,
    Attributes,
    answer_attributes,
    error_type,
    metric_attributes,
    operation,
    parameters,
    request_attributes,
)
from .content import input_attributes, output_attributes
from .metrics import Metrics
from .names import chosen

__all__ = ["Observer"]


class _Group:
    """The span of a fan-out, race or batch, and the span in which it was made."""

    def __init__(self, span: Span, outside: Span) -> None:
        self.span = span
        self.outside = outside
        self.requests = 0


class _Request:
    """One request that has begun."""

    __slots__ = ("guest", "labels", "operation", "span", "stream")

    def __init__(self, event: RequestStarted, labels: Attributes) -> None:
        self.labels = labels
        """What all its measurements have."""
        self.operation = operation(event.path)
        self.stream = event.stream
        self.span: Span = trace.INVALID_SPAN
        self.guest = False
        """Whether the span is a framework's own."""

    def add_event(self, name: str, attributes: Attributes | None = None) -> None:
        """Add an event to the span, unless a framework has ended it before the stream."""
        if self.span.is_recording():
            self.span.add_event(name, attributes)


class Observer:
    """Makes a span for each request, and measures it. Give it to a client as its observer.

    A span covers a request from its first attempt until its end: the last token, an error, a
    cancellation, or the moment at which a stream is closed. Its parent is the span that was
    current where the request was made, in whatever task or thread it is read. Requests of a
    fan-out, a race or a batch lie within a span of its own; losers of a race have
    `penstock.lost_race`. Where the current span is already that of the same inference, made by a
    framework, the request gets no second one: its attempts become events of that span, and the
    measurements that both would make are left out.

    - `tracer_provider`, `meter_provider`: those of the program (`opentelemetry.trace`,
      `opentelemetry.metrics`) by default.
    - `content`: whether spans have the messages of request and answer. They may be private, and
      long. API keys are never part of them.
    - `propagate`: whether the trace context goes out in the headers of each request.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        content: bool = False,
        *,
        propagate: bool = False,
    ) -> None:
        self._tracer = trace.get_tracer("penstock", __version__, tracer_provider)
        self._names = chosen()
        self._metrics = Metrics(metrics.get_meter("penstock", __version__, meter_provider))
        self._content = content
        self._propagate = propagate
        self._requests: dict[int, _Request] = {}
        self._groups: dict[int, _Group] = {}

    def client_made(self, event: ClientMade) -> None:
        """Read the client's figures from now on."""
        self._metrics.client_made(event)

    def request_started(self, event: RequestStarted) -> None:
        """Start the request's span."""
        labels = metric_attributes(event, self._names)
        self._requests[event.id] = request = _Request(event, labels)
        self._metrics.started(labels)
        asked = request.operation
        current = trace.get_current_span()
        if asked in INFERENCE and _is_inference(current):
            request.guest, request.span = True, current
            return
        body: Any = None
        if asked is not None:
            body = event.body.json() if self._content else parameters(bytes(event.body))
        attributes = request_attributes(event, body, self._names, labels)
        if self._content:
            attributes |= input_attributes(body)
        name = f"{asked} {event.model}" if event.model else asked
        path = event.path.partition("?")[0]
        request.span = self._tracer.start_span(
            name or f"{event.method} {path}",
            context=self._parent(event.group),
            kind=SpanKind.CLIENT,
            attributes=attributes,
        )

    def request_headers(self, event: RequestStarted) -> dict[str, str] | None:
        """Return the headers that carry the trace on, if that is wanted."""
        if not self._propagate:
            return None
        headers: dict[str, str] = {}
        propagate.inject(headers, context=trace.set_span_in_context(self._requests[event.id].span))
        return headers

    def attempt_failed(self, event: AttemptFailed) -> None:
        """Note an attempt that failed, in the span and, if it is sent again, as a retry."""
        request = self._requests[event.id]
        attributes: dict[str, Any] = {
            "penstock.attempt": event.attempt,
            "error.type": error_type(event.error),
        }
        status = getattr(event.error, "status_code", None)
        if status is not None:
            attributes["http.response.status_code"] = status
        if event.retry_in is not None:
            attributes["penstock.retry_in"] = event.retry_in
            self._metrics.retried(request.labels, event)
        request.add_event("penstock.attempt_failed", attributes)

    def response_started(self, event: ResponseStarted) -> None:
        """Note the head of the response."""
        self._requests[event.id].add_event(
            "penstock.response_started", {"http.response.status_code": event.status_code}
        )

    def first_token(self, event: FirstToken) -> None:
        """Note the first token."""
        self._requests[event.id].add_event("penstock.first_token")

    def finished(self, event: Finished) -> None:
        """End the request's span."""
        request = self._requests.pop(event.id)
        self._metrics.ended(request.labels)
        if request.guest:  # the rest is left to the framework
            return
        span, answered = request.span, answer_attributes(event, self._names)
        if request.operation is not None:
            self._metrics.finished(request.labels, event, answered, stream=request.stream)
        span.set_attributes(answered)
        if self._content:
            span.set_attributes(output_attributes(event.answer))
        if event.error is not None:
            # The message may have the server's words.
            words = str(event.error) if self._content else error_type(event.error)
            span.set_status(Status(StatusCode.ERROR, words))
        span.end()

    def group_started(self, event: GroupStarted) -> None:
        """Start the span of a fan-out, race or batch."""
        span = self._tracer.start_span(
            event.kind, context=self._parent(event.parent), kind=SpanKind.INTERNAL
        )
        self._groups[event.id] = _Group(span, trace.get_current_span())

    def group_finished(self, event: GroupFinished) -> None:
        """End it."""
        group = self._groups.pop(event.id)
        group.span.set_attributes(
            {"penstock.outcome": event.outcome, "penstock.requests": group.requests}
        )
        if event.outcome == "failed":
            group.span.set_status(Status(StatusCode.ERROR))
        group.span.end()

    def _parent(self, number: int | None) -> Context | None:
        """Return the context for a span of a group; None if it is the current one.

        A span that the program has opened inside of the group is nearer than the group's.
        """
        group = None if number is None else self._groups.get(number)
        if group is None:
            return None
        group.requests += 1
        if trace.get_current_span() is not group.outside:
            return None
        return trace.set_span_in_context(group.span)


def _is_inference(span: Span) -> bool:
    """Whether a span is one of an inference that runs now, made by somebody else."""
    if not span.is_recording():
        return False
    attributes: Any = getattr(span, "attributes", None) or {}
    return attributes.get("gen_ai.operation.name") in INFERENCE
