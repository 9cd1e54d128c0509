"""The key is in no part of an error, whatever a server sends back."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from typing import Any

import pytest

from penstock import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    Headers,
    PenstockError,
    RateLimitError,
    ReadTimeout,
    StreamError,
)
from penstock._call.redact import redact_error

KEY = "sk-Secret/0123456789"


def everything(error: BaseException) -> str:
    """All a person, a log or another process can see of an error."""
    seen = [repr(error), str(error), str(error.args), str(vars(error))]
    seen += ["".join(traceback.format_exception(error)), str(pickle.dumps(error))]
    return "\n".join(seen)


def raised(error: PenstockError, cause: BaseException | None = None) -> PenstockError:
    try:
        raise error from cause
    except PenstockError:
        return error


@pytest.mark.parametrize(
    "error",
    [
        APIConnectionError(f"no {KEY} here, {KEY}"),
        StreamError(f"bad {KEY}", code=KEY, type=KEY, param=f"x{KEY}", body={KEY: [{"a": KEY}]}),
        APIResponseError(KEY, body=f"<p>{KEY}</p>", headers=Headers([("x-echo", KEY)])),
        APIStatusError(f"401: {KEY}", body=[f"{KEY}", (KEY,)], request_id=KEY),
        RateLimitError("429", body=KEY.encode(), headers=Headers([(KEY, "1"), ("a", f"b {KEY}")])),
    ],
)
def test_no_part_of_an_error_has_the_key(error: PenstockError) -> None:
    redacted = redact_error(raised(error), KEY)
    assert redacted is error
    for seen in (error, copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert KEY not in everything(seen)
        assert KEY.lower() not in everything(seen)
        assert "[redacted]" in everything(seen)


def test_the_rest_of_it_stays() -> None:
    body = {"error": {"message": "no", "n": 5, "ok": None}}
    headers = Headers([("x-a", "1"), ("x-a", "2"), ("x-b", "3")])
    error = APIStatusError("400: no", status_code=400, body=body, headers=headers, retry_after=1.5)
    redact_error(error, KEY)
    assert error.args == ("400: no",)
    assert (error.status_code, error.body, error.retry_after) == (400, body, 1.5)
    assert error.headers.get_list("x-a") == ["1", "2"]
    assert dict(error.headers) == dict(headers)


def test_the_causes_are_part_of_what_is_logged() -> None:
    deepest = ValueError(f"illegal header line: {KEY}".encode(), [KEY])
    middle = raised(APIConnectionError(f"broken by {KEY}"), deepest)
    error = raised(APIResponseError(f"odd: {KEY}"), middle)
    redact_error(error, KEY)
    assert KEY not in everything(error)
    assert "illegal header line" in everything(error)


def test_what_an_error_was_raised_during_is_logged_too() -> None:
    error: PenstockError | None = None
    try:
        try:
            raise OSError(5, f"during {KEY}")
        except OSError:
            raise APIConnectionError("x")  # noqa: B904 - the context is what is tested
    except PenstockError as caught:
        error = redact_error(caught, KEY)
    assert error is not None
    assert KEY not in everything(error)


def test_a_timeout_keeps_its_words() -> None:
    error = ReadTimeout("silent for 5 s")  # a TimeoutError, so an OSError as well
    assert str(redact_error(error, KEY)) == "silent for 5 s"
    assert repr(error) == "ReadTimeout('silent for 5 s')"
    timeout = raised(ReadTimeout("x"), OSError(2, "no file", f"/run/{KEY}"))
    redact_error(timeout, KEY)
    assert KEY not in everything(timeout)
    assert "no file: '/run/[redacted]'" in everything(timeout)


def test_causes_that_go_in_a_circle() -> None:
    error = APIConnectionError(f"a {KEY}")
    other = APIConnectionError(f"b {KEY}")
    error.__cause__, other.__cause__ = other, error
    redact_error(error, KEY)
    assert KEY not in everything(error)
    itself = ValueError(KEY)
    itself.__cause__ = itself
    error.__cause__ = itself
    redact_error(error, KEY)
    assert KEY not in everything(error)


@pytest.mark.parametrize("shown", range(8, len(KEY)))
@pytest.mark.parametrize("ending", ["", "..."])
def test_an_excerpt_that_was_cut_inside_the_key(shown: int, ending: str) -> None:
    cut = f"you sent {KEY[:shown]}{ending}"
    error = redact_error(APIResponseError(cut, body=cut), KEY)
    assert str(error) == error.body == f"you sent [redacted]{ending}"


def test_a_few_letters_of_the_key_are_innocent() -> None:
    error = redact_error(APIResponseError("a line that ends as keys begin: sk"), KEY)
    assert str(error).endswith("sk")


@pytest.mark.parametrize(
    "key",
    ['sk-"quote"\\back', "sk-a/b+c=0123", "sk-<&>'012345"],
    ids=["in strings", "in addresses", "in pages"],
)
def test_a_key_as_json_and_pages_write_it(key: str) -> None:
    escaped = json.dumps(key)[1:-1]
    slashes = escaped.replace("/", "\\/")
    error: Any = StreamError(f"{escaped} {slashes}", body=escaped)
    redact_error(error, key)
    assert error.args == ("[redacted] [redacted]",)
    assert error.body == "[redacted]"


@pytest.mark.parametrize("key", [None, "", "none", "EMPTY", "local"])
def test_a_word_that_stands_in_for_a_key_is_no_secret(key: str | None) -> None:
    text = "none local EMPTY"
    assert str(redact_error(APIConnectionError(text), key)) == text


def test_the_answer_itself_is_the_callers() -> None:
    from penstock._wire.accumulate import Accumulator

    error = StreamError("x", partial=Accumulator().completion())
    partial = error.partial
    assert redact_error(error, KEY).partial is partial
