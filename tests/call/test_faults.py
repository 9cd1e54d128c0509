from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from penstock import (
    APIConnectionError,
    APIResponseError,
    Headers,
    StreamClosedError,
    StreamInterruptedError,
)
from penstock._call.faults import UNREADABLE, public_error
from penstock._http.exchange import BodyTooLarge, MalformedResponse
from penstock._http.network import ClosedLocally, ConnectionFailed
from penstock._wire.encoding import EncodingError
from penstock._wire.framing import FramingError


def exchange(body_bytes: int) -> Any:
    return SimpleNamespace(body_bytes=body_bytes, headers=Headers([("x-request-id", "r1")]))


@pytest.mark.parametrize(
    ("body_bytes", "kind"),
    [(None, APIConnectionError), (0, APIConnectionError), (1, StreamInterruptedError)],
)
def test_the_first_byte_of_the_body_decides(body_bytes: int | None, kind: type[Exception]) -> None:
    of = None if body_bytes is None else exchange(body_bytes)
    error = public_error(ConnectionFailed("it broke"), of)
    assert type(error) is kind
    assert str(error) == "it broke"
    assert error.request_id == (None if of is None else "r1")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "fault",
    [MalformedResponse("junk"), BodyTooLarge(7), FramingError("junk"), EncodingError("junk")],
)
def test_what_cannot_be_understood(fault: Exception) -> None:
    for of in (None, exchange(0), exchange(5)):
        assert type(public_error(fault, of)) is APIResponseError
    assert isinstance(fault, (MalformedResponse, *UNREADABLE))


def test_closed_here_is_misuse_and_the_unknown_stays_itself() -> None:
    assert type(public_error(ClosedLocally(), exchange(5))) is StreamClosedError
    bug = KeyError("bug")
    assert public_error(bug, None) is bug
