from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest

from penstock import errors
from penstock.errors import PenstockError, status_error_class
from penstock.headers import Headers
from penstock.types import ChatCompletion, ChatCompletionMessage, Choice, Function, ToolCall

CLASSES: dict[str, type[PenstockError]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, PenstockError)
}

# Each class with its parent, as the docstring of penstock.errors draws them.
TREE = {
    "PenstockError": "Exception",
    "APIStatusError": "PenstockError",
    "BadRequestError": "APIStatusError",
    "AuthenticationError": "APIStatusError",
    "InsufficientCreditsError": "APIStatusError",
    "PermissionDeniedError": "APIStatusError",
    "NotFoundError": "APIStatusError",
    "ConflictError": "APIStatusError",
    "UnprocessableEntityError": "APIStatusError",
    "RateLimitError": "APIStatusError",
    "InternalServerError": "APIStatusError",
    "EndpointNotReadyError": "InternalServerError",
    "APIConnectionError": "PenstockError",
    "APITimeoutError": "APIConnectionError",
    "ConnectTimeout": "APITimeoutError",
    "SlotTimeout": "APITimeoutError",
    "ReadTimeout": "APITimeoutError",
    "FirstTokenTimeout": "APITimeoutError",
    "IdleTimeout": "APITimeoutError",
    "TotalTimeout": "APITimeoutError",
    "StreamInterruptedError": "APIConnectionError",
    "IncompleteStreamError": "StreamInterruptedError",
    "StreamError": "PenstockError",
    "APIResponseError": "PenstockError",
    "StructuredOutputError": "PenstockError",
    "ToolArgumentsError": "PenstockError",
    "AllAttemptsFailed": "PenstockError",
    "StreamClosedError": "PenstockError",
    "StreamBusyError": "PenstockError",
}

PARTIAL = ChatCompletion(choices=[Choice(message=ChatCompletionMessage(content="Hel"))])
HEADERS = Headers([("retry-after", "3")])
SOURCES: dict[str, dict[str, Any]] = {
    "APIStatusError": {
        "status_code": 429,
        "body": {"error": {"message": "no"}},
        "code": "c",
        "type": "t",
        "param": "p",
        "request_id": "r",
        "headers": HEADERS,
        "retry_after": 3.0,
    },
    "StreamError": {
        "code": 502,
        "type": "t",
        "param": "p",
        "status_code": 502,
        "body": "text",
        "partial": PARTIAL,
        "request_id": "r",
    },
    "APIResponseError": {
        "body": "<html>",
        "status_code": 200,
        "headers": HEADERS,
        "partial": PARTIAL,
        "request_id": "r",
    },
    "StructuredOutputError": {"reason": "length", "completion": PARTIAL, "request_id": "r"},
    "ToolArgumentsError": {"call": ToolCall(id="a", function=Function("f", "{"))},
    "AllAttemptsFailed": {},
    "PenstockError": {"partial": PARTIAL, "request_id": "r"},
}


def members(name: str) -> dict[str, Any]:
    """The arguments of this class or of its nearest ancestor that has some of its own."""
    while name not in SOURCES:
        name = TREE[name]
    return SOURCES[name]


def test_the_tree() -> None:
    assert {name: kind.__bases__[0].__name__ for name, kind in CLASSES.items()} == TREE
    assert set(errors.__all__) == {*TREE, "status_error_class"}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+\b", errors.__doc__.partition("All of")[0]))
    assert set(TREE) <= drawn


def test_timeouts_are_timeout_errors() -> None:
    for name, kind in CLASSES.items():
        assert issubclass(kind, TimeoutError) == ("Timeout" in name)


@pytest.mark.parametrize("name", TREE)
def test_it_pickles_and_copies_with_all_it_has(name: str) -> None:
    error = CLASSES[name]("what happened", **members(name))
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == "what happened"
        assert vars(twin) == vars(error)
    for attribute, value in members(name).items():
        assert getattr(error, attribute) == value


@pytest.mark.parametrize("name", TREE)
def test_everything_is_optional(name: str) -> None:
    error = CLASSES[name]()
    assert str(error) == ""
    assert error.partial is None
    assert error.request_id is None
    assert type(pickle.loads(pickle.dumps(error))) is type(error)


@pytest.mark.parametrize("name", TREE)
def test_the_repr_is_short(name: str) -> None:
    error = CLASSES[name]("what happened", **members(name))
    assert repr(error) == f"{name}('what happened')"


def test_the_failures_of_a_race() -> None:
    failures = [errors.ReadTimeout("slow", request_id="a"), ValueError("x")]
    error = errors.AllAttemptsFailed("all failed", errors=tuple(failures))
    assert error.errors == failures
    twin = pickle.loads(pickle.dumps(error))
    assert [type(failure) for failure in twin.errors] == [errors.ReadTimeout, ValueError]
    assert twin.errors[0].request_id == "a"


def test_the_partial_answer_may_be_set_later() -> None:
    error = errors.StreamInterruptedError("reset")
    error.partial = PARTIAL
    assert pickle.loads(pickle.dumps(error)).partial == PARTIAL
    assert PenstockError.partial is None


def test_headers_are_there_without_any() -> None:
    assert errors.APIStatusError().headers == errors.APIResponseError().headers == {}


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "BadRequestError"), (401, "AuthenticationError"), (402, "InsufficientCreditsError"),
        (403, "PermissionDeniedError"), (404, "NotFoundError"), (405, "APIStatusError"),
        (408, "APIStatusError"), (409, "ConflictError"), (422, "UnprocessableEntityError"),
        (429, "RateLimitError"), (499, "APIStatusError"), (500, "InternalServerError"),
        (502, "InternalServerError"), (503, "EndpointNotReadyError"),
        (529, "InternalServerError"), (999, "InternalServerError"), (307, "APIStatusError"),
    ],
)  # fmt: skip
def test_the_class_of_a_status(status: int, name: str) -> None:
    assert status_error_class(status) is CLASSES[name]
