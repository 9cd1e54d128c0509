"""Errors as those of httpx."""

from __future__ import annotations

import pytest

import penstock
from penstock._http.network import ConnectionFailed
from penstock.compat._errors import httpx_error
from tests.support.compat import Generation


def caused(error: penstock.PenstockError, *, ended: bool) -> penstock.PenstockError:
    error.__cause__ = ConnectionFailed("the connection failed", ended=ended)
    return error


@pytest.mark.parametrize(
    ("error", "connected", "kind"),
    [
        (penstock.SlotTimeout("x"), False, "PoolTimeout"),
        (penstock.ConnectTimeout("x"), False, "ConnectTimeout"),
        (penstock.TotalTimeout("x"), False, "ConnectTimeout"),
        (penstock.TotalTimeout("x"), True, "ReadTimeout"),
        (penstock.ReadTimeout("x"), True, "ReadTimeout"),
        (penstock.FirstTokenTimeout("x"), True, "ReadTimeout"),
        (penstock.IdleTimeout("x"), True, "ReadTimeout"),
        (penstock.APIConnectionError("x"), False, "ConnectError"),
        (caused(penstock.APIConnectionError("x"), ended=False), True, "ReadError"),
        (caused(penstock.APIConnectionError("x"), ended=True), True, "RemoteProtocolError"),
        (caused(penstock.StreamInterruptedError("x"), ended=False), True, "ReadError"),
        (
            caused(penstock.StreamInterruptedError("x"), ended=True),
            True,
            "RemoteProtocolError",
        ),
        (penstock.IncompleteStreamError("x"), True, "RemoteProtocolError"),
        (penstock.APIResponseError("x"), True, "RemoteProtocolError"),
        (penstock.StreamClosedError("x"), True, "ReadError"),
        (penstock.StreamError("x"), True, "TransportError"),
    ],
)
def test_each_has_its_class(
    generation: Generation, error: penstock.PenstockError, connected: bool, kind: str
) -> None:
    made = httpx_error(generation.httpx, error, connected=connected)
    assert type(made) is getattr(generation.httpx, kind)
    assert str(made) == str(error)
