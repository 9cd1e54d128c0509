"""Instrumentation of a whole process, as `opentelemetry-instrument` finds it."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from ..observing.notifier import add_observer, remove_observer
from .observer import Observer

__all__ = ["Instrumentor"]

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class Instrumentor:
    """Observes every client that is made after `instrument()`. All instances are one.

    `opentelemetry-instrument` calls it by its entry point. The environment variable
    OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT (true, span_only, span_and_event) asks for
    the content of messages, as in other instrumentations.
    """

    _observer: Observer | None = None

    def instrument(
        self,
        *,
        tracer_provider: Any = None,
        meter_provider: Any = None,
        content: bool | None = None,
        propagate: bool = False,
        **options: Any,
    ) -> None:
        """Begin. Nothing if it has begun already. Other options, meant for others, are ignored."""
        if Instrumentor._observer is not None:
            return
        if content is None:
            asked = os.environ.get(CAPTURE, "").lower()
            content = asked in ("true", "span_only", "span_and_event")
        observer = Observer(tracer_provider, meter_provider, content, propagate=propagate)
        Instrumentor._observer = observer
        add_observer(observer)

    def uninstrument(self, **options: Any) -> None:
        """End it for clients that are made from now on. Nothing if it has not begun."""
        observer, Instrumentor._observer = Instrumentor._observer, None
        if observer is not None:
            remove_observer(observer)

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether it has begun."""
        return Instrumentor._observer is not None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: the library itself is what is instrumented."""
        return ()
