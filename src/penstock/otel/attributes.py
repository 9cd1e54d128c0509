"""Attributes of spans and metrics, made of the events of a request."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from .._typed.members import is_list, is_object
from ..observing.events import Finished, RequestStarted
from .names import Names

__all__ = [
    "INFERENCE",
    "Attributes",
    "answer_attributes",
    "metric_attributes",
    "operation",
    "parameters",
    "request_attributes",
]

Attributes = dict[str, Any]

INFERENCE = frozenset({"chat", "text_completion", "generate_content"})
"""Operations in which a model generates something."""

# The last parts of a path, and what the conventions call the operation.
_OPERATIONS = {
    "chat/completions": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}

# Names of providers where the conventions have one that differs from ours.
_PROVIDERS = {"xai": "x_ai", "mistral": "mistral_ai", "azure": "azure.ai.openai"}

# Members of a request that are numbers, and their attributes.
_NUMBERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
}


_LARGEST = 2**63 - 1


class _Parameters(msgspec.Struct, gc=False):
    """What attributes say of a request: decoded without its messages, which may be long."""

    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    seed: Any = None
    n: Any = None
    stop: Any = None
    response_format: Any = None
    service_tier: Any = None


_decode = msgspec.json.Decoder(_Parameters).decode


def parameters(body: bytes) -> dict[str, Any]:
    """Return the members of a request's body that attributes are made of."""
    try:
        return msgspec.structs.asdict(_decode(body))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}


@lru_cache(maxsize=256)
def operation(path: str) -> str | None:
    """Return the name of the operation behind a path; None if no model is asked there."""
    parts = path.partition("?")[0].rstrip("/").split("/")
    return _OPERATIONS.get("/".join(parts[-2:])) or _OPERATIONS.get(parts[-1])


def metric_attributes(event: RequestStarted, names: Names) -> Attributes:
    """Return what every measurement of a request has: few values each, as metrics need it."""
    attributes: Attributes = {"server.address": event.host, "server.port": event.port}
    asked = operation(event.path)
    if asked is not None:
        attributes["gen_ai.operation.name"] = asked
        if event.provider is not None:
            attributes[names.provider] = _PROVIDERS.get(event.provider, event.provider)
    if event.model is not None:
        attributes["gen_ai.request.model"] = event.model
    return attributes


def request_attributes(
    event: RequestStarted, body: object, names: Names, labels: Attributes
) -> Attributes:
    """Return the attributes of a span when its request starts, `labels` of its metrics included."""
    attributes = dict(labels)
    if operation(event.path) is None:
        attributes["http.request.method"] = event.method
        attributes["url.path"] = event.path.partition("?")[0]
        return attributes
    attributes["gen_ai.request.stream"] = event.stream
    if not is_object(body):
        return attributes
    for name, attribute in _NUMBERS.items():
        value = body.get(name)
        if isinstance(value, float) or _is_count(value, -_LARGEST):
            attributes[attribute] = value
    seed = body.get("seed")
    if _is_count(seed, -_LARGEST):
        attributes[names.seed] = seed
    choices = body.get("n")
    if _is_count(choices) and choices != 1:
        attributes["gen_ai.request.choice.count"] = choices
    stop = body.get("stop")
    if isinstance(stop, str):
        attributes["gen_ai.request.stop_sequences"] = [stop]
    elif is_list(stop) and all(isinstance(each, str) for each in stop):
        attributes["gen_ai.request.stop_sequences"] = stop
    shape = body.get("response_format")
    kind = shape.get("type") if is_object(shape) else shape
    if isinstance(kind, str):
        later = names.output_type == "gen_ai.output.type"
        attributes[names.output_type] = "json" if later and kind.startswith("json") else kind
    tier = body.get("service_tier")
    if isinstance(tier, str) and tier != "auto":
        attributes[names.request_tier] = tier
    return attributes


def answer_attributes(event: Finished, names: Names) -> Attributes:
    """Return the attributes of a span when its request has ended."""
    attributes: Attributes = {
        "penstock.outcome": event.outcome,
        "penstock.attempts": event.attempts,
    }
    if event.lost_race:
        attributes["penstock.lost_race"] = True
    optional = {
        "gen_ai.response.id": event.response_id,
        "gen_ai.response.model": event.response_model,
        "gen_ai.response.time_to_first_chunk": event.statistics.first_token,
        "penstock.request_id": event.request_id,
        names.response_tier: getattr(event.answer, "service_tier", None),
        names.fingerprint: getattr(event.answer, "system_fingerprint", None),
    }
    if event.finish_reasons:
        optional["gen_ai.response.finish_reasons"] = list(event.finish_reasons)
    if event.error is not None:
        optional["error.type"] = error_type(event.error)
    usage = event.usage
    if usage is not None:
        prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
        counts = {
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": prompt and prompt.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": completion and completion.reasoning_tokens,
        }
        optional |= {name: count for name, count in counts.items() if _is_count(count)}
    attributes.update({name: value for name, value in optional.items() if value is not None})
    return attributes


def _is_count(value: object, least: int = 0) -> bool:
    """Return whether this is a whole number that exporters can send: they have 64 bits for it."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST


def error_type(error: BaseException) -> str:
    """Return what `error.type` says of an error: the name of its class."""
    return type(error).__qualname__
