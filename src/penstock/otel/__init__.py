"""Traces and metrics of requests for OpenTelemetry, by its conventions for generative AI.

    client = AsyncClient(observer=penstock.otel.Observer())

It needs the extra `otel` (opentelemetry-api). Where the spans and metrics go is a matter of the
SDK that the program sets up; without one nothing is recorded.
"""

try:
    from .instrumentor import Instrumentor
    from .observer import Observer
except ModuleNotFoundError as _missing:
    if not (_missing.name or "").startswith("opentelemetry"):
        raise
    raise ImportError(
        "penstock.otel needs opentelemetry-api: install the extra, penstock[otel]"
    ) from _missing

__all__ = ["Instrumentor", "Observer"]
