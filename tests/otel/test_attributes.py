"""What the attributes say of any request: the right operation, values of the right types."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.observing import Finished, RequestStarted
from penstock.otel.attributes import (
    answer_attributes,
    metric_attributes,
    operation,
    parameters,
    request_attributes,
)
from penstock.otel.names import chosen
from penstock.types import Usage


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", "chat"),
        ("/openai/deployments/d/chat/completions?api-version=1", "chat"),
        ("/v1/completions", "text_completion"),
        ("/v1/responses", "chat"),
        ("/v1/messages/", "chat"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/models", None),
        ("/", None),
    ],
)
def test_the_operation_is_told_by_the_path(path: str, expected: str | None) -> None:
    assert operation(path) == expected


def started(provider: str | None = "openai") -> RequestStarted:
    return RequestStarted(
        *(1, "m", "POST", "/v1/chat/completions", True, 0.0), host="h", port=1, provider=provider
    )


JSON: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
MEMBERS = st.sampled_from(
    ["temperature", "top_p", "max_tokens", "n", "stop", "response_format", "service_tier", "seed"]
)


@given(body=JSON | st.dictionaries(MEMBERS, JSON))
def test_whatever_the_body_is_the_values_can_be_recorded(body: Any) -> None:
    for name, value in request_attributes(started(), body, chosen(), {}).items():
        assert isinstance(name, str)
        assert isinstance(value, (str, bool, int, float)) or (
            isinstance(value, list) and all(isinstance(each, str) for each in value)
        )


@pytest.mark.parametrize("opt_in", ["", "http,gen_ai_latest_experimental"])
def test_the_environment_chooses_the_names(opt_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", opt_in)
    body = {"response_format": {"type": "json_schema"}, "service_tier": "flex", "seed": 3}
    labels = metric_attributes(started("azure"), chosen())
    attributes = request_attributes(started("azure"), body, chosen(), labels)
    if opt_in:
        assert attributes["gen_ai.provider.name"] == "azure.ai.openai"
        assert attributes["gen_ai.output.type"] == "json"
        assert attributes["openai.request.service_tier"] == "flex"
        assert attributes["gen_ai.request.seed"] == 3
        assert "gen_ai.system" not in attributes
    else:
        assert attributes["gen_ai.system"] == "azure.ai.openai"
        assert attributes["gen_ai.openai.request.response_format"] == "json_schema"
        assert attributes["gen_ai.openai.request.service_tier"] == "flex"
        assert attributes["gen_ai.openai.request.seed"] == 3
        assert "gen_ai.request.seed" not in attributes
        assert "gen_ai.provider.name" not in attributes


@given(body=JSON | st.dictionaries(MEMBERS | st.just("messages"), JSON))
def test_the_parameters_of_a_body_are_found_without_the_rest(body: Any) -> None:
    data = json.dumps(body).encode()
    whole = request_attributes(started(), body, chosen(), {})
    assert request_attributes(started(), parameters(data), chosen(), {}) == whole


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_object_has_no_parameters(data: bytes) -> None:
    assert parameters(data) == {}


@pytest.mark.parametrize("count", [-1, 2**63, 10**30])
def test_counts_that_no_exporter_can_send_are_left_out(count: int) -> None:
    """One of them would cost all the spans of its batch."""
    usage = Usage(prompt_tokens=count, completion_tokens=3)
    answered = answer_attributes(finished(usage), chosen())
    assert "gen_ai.usage.input_tokens" not in answered
    assert answered["gen_ai.usage.output_tokens"] == 3
    asked = request_attributes(started(), {"seed": 10**30, "n": count}, chosen(), {})
    assert asked == {"gen_ai.request.stream": True}


def finished(usage: Usage) -> Finished:
    return Finished(
        id=1,
        model="m",
        outcome="completed",
        error=None,
        usage=usage,
        attempts=1,
        request_id=None,
        started=0.0,
        time=1.0,
    )
