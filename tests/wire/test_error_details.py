from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.error_details import ErrorDetails, error_details

OPENAI = {
    "error": {
        "message": "Rate limit reached",
        "type": "requests",
        "param": "model",
        "code": "rate_limit_exceeded",
    }
}

CASES: dict[str, tuple[Any, ErrorDetails]] = {
    "OpenAI": (
        OPENAI,
        ErrorDetails("Rate limit reached", "rate_limit_exceeded", "requests", "model"),
    ),
    "OpenAI, with null": (
        {"error": {"message": "No", "type": "t", "param": None, "code": None}},
        ErrorDetails("No", type="t"),
    ),
    "a string": ({"error": "model not loaded"}, ErrorDetails("model not loaded")),
    "TGI": (
        {"error": "Model is overloaded", "error_type": "overloaded"},
        ErrorDetails("Model is overloaded", type="overloaded"),
    ),
    "vLLM": (
        {"object": "error", "message": "too long", "type": "BadRequestError", "code": 400},
        ErrorDetails("too long", 400, "BadRequestError", None, 400),
    ),
    "OpenRouter": (
        {"error": {"code": 502, "message": "Provider disconnected"}, "choices": []},
        ErrorDetails("Provider disconnected", 502, status_code=502),
    ),
    "FastAPI, a text": ({"detail": "Not Found"}, ErrorDetails("Not Found")),
    "FastAPI, a list": (
        {
            "detail": [
                {
                    "loc": ["body", "messages", 0, "role"],
                    "msg": "Field required",
                    "type": "missing",
                },
                {"loc": ["body", "model"], "msg": "Not a string", "type": "string_type"},
            ]
        },
        ErrorDetails(
            "body.messages.0.role: Field required; body.model: Not a string",
            type="missing",
            param="body.messages.0.role",
        ),
    ),
    "FastAPI, an object": (
        {"detail": {"error": {"message": "No", "code": "x"}}},
        ErrorDetails("No", "x"),
    ),
    "FastAPI, a place and no words": ({"detail": [{"loc": ["a"]}]}, ErrorDetails("a", param="a")),
    "Google": (
        [{"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED"}}],
        ErrorDetails("Quota", 429, "RESOURCE_EXHAUSTED", None, 429),
    ),
    "Anthropic": (
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        ErrorDetails("Overloaded", type="overloaded_error"),
    ),
    "Cloudflare": (
        {"success": False, "errors": [{"code": 7003, "message": "No route"}]},
        ErrorDetails("No route", 7003),
    ),
    "NestJS": (
        {"statusCode": 404, "message": "Cannot POST /", "error": "Not Found"},
        ErrorDetails("Cannot POST /", type="Not Found", status_code=404),
    ),
    "AWS": (
        {"__type": "ThrottlingException", "message": "Slow down"},
        ErrorDetails("Slow down", type="ThrottlingException"),
    ),
    "problem details": (
        {"type": "about:blank", "title": "Bad", "status": 422, "detail": "Worse"},
        ErrorDetails("Worse", type="about:blank", status_code=422),
    ),
    "a message": ({"message": "No"}, ErrorDetails("No")),
    "a type and a message": ({"type": "error", "message": "No"}, ErrorDetails("No", type="error")),
    "a code and a message": ({"code": 1301, "message": "No"}, ErrorDetails("No", 1301)),
    "JSON in a message": (
        {"error": {"message": '{"error":{"message":"No","code":"x"}}', "code": 502}},
        ErrorDetails("No", 502, status_code=502),
    ),
    "JSON in a string": (
        {"error": '[{"error": {"message": "No", "status": "INVALID"}}]'},
        ErrorDetails("No", type="INVALID"),
    ),
    "JSON in a detail": ({"detail": ' {"msg": "No"} '}, ErrorDetails("No")),
    "JSON without a message": ({"error": '{"a": 1}'}, ErrorDetails('{"a": 1}')),
    "no JSON in a message": ({"message": "{No}"}, ErrorDetails("{No}")),
    "a message that is an object": ({"message": {"detail": "No"}}, ErrorDetails("No")),
    "several": ({"errors": ["a", "b", "c", "d"]}, ErrorDetails("a; b; c")),
    "true beside a message": ({"error": True, "message": "No"}, ErrorDetails("No")),
    "a status in a string": (
        {"error": {"message": "No", "http_status": "503"}},
        ErrorDetails("No", status_code=503),
    ),
    "a status that is none": ({"error": {"message": "No", "code": 1}}, ErrorDetails("No", 1)),
    "a status outside": (
        {"status_code": 500, "error": {"message": "No"}},
        ErrorDetails("No", status_code=500),
    ),
    "text": (" down \n", ErrorDetails("down")),
    "nothing": (None, ErrorDetails()),
    "an empty object": ({}, ErrorDetails()),
    "an empty list": ([], ErrorDetails()),
    "empty text": ({"error": "", "message": " "}, ErrorDetails()),
    "a number": (5, ErrorDetails()),
    "booleans": ({"error": {"code": True, "message": "No"}}, ErrorDetails("No")),
}


@pytest.mark.parametrize("case", CASES)
def test_details(case: str) -> None:
    payload, expected = CASES[case]
    assert error_details(payload) == expected


@pytest.mark.parametrize(
    ("code", "status"), [(399, None), (400, 400), (599, 599), (600, None), (-500, None), (0, None)]
)
def test_a_code_that_may_be_a_status(code: int, status: int | None) -> None:
    details = error_details({"error": {"message": "No", "code": code}})
    assert details == ErrorDetails("No", code, status_code=status)


@pytest.mark.parametrize("kinds", ["o", "l", "ol", "lo", "oll"])
def test_nesting_without_end_is_cut_off(kinds: str) -> None:
    payload: Any = "x"
    for level, kind in enumerate(itertools.islice(itertools.cycle(kinds), 100_000)):
        if level <= 7:
            found = error_details(payload)
            assert found == (ErrorDetails("x") if level <= 6 else ErrorDetails())
        payload = {"error": payload} if kind == "o" else [payload]
    assert error_details(payload) == ErrorDetails()
    while not isinstance(payload, str):  # not left to the interpreter's recursive destructor
        payload = payload["error"] if isinstance(payload, dict) else payload[0]


def test_a_place_nested_without_end_is_cut_off() -> None:
    step: Any = 0
    for _ in range(2000):  # to tell these steps in words, Python's stack is too small
        step = [step]
    error = {"detail": [{"loc": ["body", step, {}, None, 0], "msg": "no"}]}
    assert error_details(error) == ErrorDetails("body.0: no", param="body.0")
    error = {"detail": [{"loc": [step], "msg": "no"}]}
    assert error_details(error) == ErrorDetails("no")


names = st.sampled_from(
    ["error", "errors", "detail", "message", "msg", "code", "type", "param", "status", "loc"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
)


@given(anything)
def test_any_payload_gives_details_of_the_declared_types(payload: Any) -> None:
    details = error_details(payload)
    assert isinstance(details.message, str | None)
    assert isinstance(details.code, str | int | None)
    assert not isinstance(details.code, bool)
    assert isinstance(details.type, str | None)
    assert isinstance(details.param, str | None)
    assert details.status_code is None or 400 <= details.status_code <= 599
