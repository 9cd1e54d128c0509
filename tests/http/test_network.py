from __future__ import annotations

from penstock._http.network import ConnectionFailed


def test_a_failure_is_worth_another_try_unless_said_otherwise() -> None:
    assert not ConnectionFailed("x").permanent
    assert ConnectionFailed("x", permanent=True).permanent
