"""The names of attributes and metrics: one table for both sets of conventions.

The conventions renamed some attributes. Instrumentations emit the earlier names by default, and
the later ones where OTEL_SEMCONV_STABILITY_OPT_IN contains `gen_ai_latest_experimental`. This
follows them, so that dashboards see the same names from every library.
Source: OpenTelemetry semantic conventions for generative client AI spans and metrics.
"""

from __future__ import annotations

import os

import msgspec

__all__ = ["LATEST", "Names", "chosen"]

LATEST = "gen_ai_latest_experimental"
"""The value of OTEL_SEMCONV_STABILITY_OPT_IN that asks for the later names."""


class Names(msgspec.Struct, frozen=True):
    """Names that the two sets of conventions do not share."""

    provider: str
    """Whose API it is."""
    seed: str
    """The seed of sampling."""
    output_type: str
    """The type of `response_format`."""
    request_tier: str
    """The service tier that was asked for."""
    response_tier: str
    """The service tier that answered."""
    fingerprint: str
    """The system fingerprint of the answer."""


_BY_DEFAULT = Names(
    provider="gen_ai.system",
    seed="gen_ai.openai.request.seed",
    output_type="gen_ai.openai.request.response_format",
    request_tier="gen_ai.openai.request.service_tier",
    response_tier="gen_ai.openai.response.service_tier",
    fingerprint="gen_ai.openai.response.system_fingerprint",
)

_LATEST = Names(
    provider="gen_ai.provider.name",
    seed="gen_ai.request.seed",
    output_type="gen_ai.output.type",
    request_tier="openai.request.service_tier",
    response_tier="openai.response.service_tier",
    fingerprint="openai.response.system_fingerprint",
)


def chosen() -> Names:
    """Return the names that the environment asks for."""
    asked = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "")
    latest = LATEST in (part.strip() for part in asked.split(","))
    return _LATEST if latest else _BY_DEFAULT
