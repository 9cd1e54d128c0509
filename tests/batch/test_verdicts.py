"""What errors mean for a row."""

from __future__ import annotations

import json

import pytest

from penstock import errors
from penstock.batch.verdicts import verdict_of
from penstock.types import ChatCompletion, Choice


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "fails", "bad_request"),
        (403, "fails", "permission_denied"),
        (404, "fails", "not_found"),
        (413, "fails", "too_large"),
        (422, "fails", "unprocessable"),
        (405, "fails", "status_405"),
        (418, "fails", "status_418"),
        (301, "fails", "status_301"),
        (401, "refused", "status_401"),
        (402, "refused", "status_402"),
        (408, "again", "status_408"),
        (409, "again", "status_409"),
        (500, "again", "server_error"),
        (502, "again", "server_error"),
        (504, "again", "server_error"),
        (429, "overload", "rate_limit"),
        (503, "overload", "server_error"),
        (529, "overload", "server_error"),
    ],
)
def test_statuses(status: int, kind: str, code: str) -> None:
    body = {"error": {"message": "no"}}
    error = errors.status_error_class(status)(
        "no", status_code=status, body=body, type="t", param="p", request_id="r", retry_after=3.0
    )
    verdict = verdict_of(error)
    assert (verdict.kind, verdict.failure.code) == (kind, code)
    assert verdict.failure.message == "no"
    assert verdict.failure.status_code == verdict.status_code == status
    assert (verdict.failure.type, verdict.failure.param) == ("t", "p")
    assert (verdict.request_id, verdict.wait) == ("r", 3.0)
    assert json.loads(verdict.body) == body


def test_a_used_up_quota_refuses_the_account() -> None:
    for error in (
        errors.RateLimitError("no", status_code=429, code="insufficient_quota"),
        errors.RateLimitError("no", status_code=429, type="insufficient_quota"),
        errors.StreamError("no", code="insufficient_quota"),
        errors.StreamError("no", status_code=402),
    ):
        assert verdict_of(error).kind == "refused"


PARTIAL = ChatCompletion(choices=[Choice(index=0)])
EMPTY = ChatCompletion(choices=[])


@pytest.mark.parametrize(
    ("error", "kind", "code", "cut"),
    [
        (errors.StreamError("x"), "again", "server_error", False),
        (errors.StreamError("x", status_code=429), "again", "rate_limit", False),
        (errors.StreamError("x", partial=PARTIAL), "again", "server_error", True),
        # No answer had begun, so nothing was cut off.
        (errors.StreamError("x", partial=EMPTY), "again", "server_error", False),
        (errors.IdleTimeout("x", partial=EMPTY), "again", "timeout", False),
        (errors.APIResponseError("x", body="<html>"), "again", "bad_response", False),
        (errors.StreamInterruptedError("x"), "again", "interrupted", True),
        (errors.IncompleteStreamError("x", partial=PARTIAL), "again", "interrupted", True),
        (errors.ReadTimeout("x"), "again", "timeout", False),
        (errors.TotalTimeout("x"), "again", "timeout", False),
        (errors.IdleTimeout("x", partial=PARTIAL), "again", "timeout", True),
        (errors.ConnectTimeout("x"), "connection", "connection", False),
        (errors.APIConnectionError("x"), "connection", "connection", False),
    ],
)
def test_other_errors(error: errors.PenstockError, kind: str, code: str, cut: bool) -> None:
    verdict = verdict_of(error)
    assert (verdict.kind, verdict.failure.code, verdict.cut) == (kind, code, cut)
    assert (verdict.failure.partial is not None) == (error.partial is PARTIAL)


def test_an_error_inside_a_200_has_a_response() -> None:
    verdict = verdict_of(errors.StreamError("x", body={"error": "x"}))
    assert verdict.status_code == 200
    assert json.loads(verdict.body) == {"error": "x"}
    page = verdict_of(errors.APIResponseError("x", body="<html>", status_code=200))
    assert json.loads(page.body) == "<html>"


def test_a_message_is_one_line_of_printable_characters() -> None:
    assert verdict_of(errors.APIConnectionError("a\nb\x1b[31m")).failure.message == "a b\ufffd[31m"
    assert verdict_of(errors.APIConnectionError()).failure.message == "APIConnectionError"
