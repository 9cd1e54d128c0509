"""Checks of arguments, before any I/O."""

from __future__ import annotations

import pytest

from penstock._client.arguments import checked_keepalive, checked_retries, checked_wait


def test_numbers_are_checked() -> None:
    assert checked_retries(0) == 0
    assert checked_wait(0) == 0
    assert checked_wait(float("inf")) == float("inf")
    assert checked_keepalive(5) == 5
    for bad in (-1, 1.0, "1", None, True):
        with pytest.raises(ValueError, match="max_retries"):
            checked_retries(bad)
    for bad in (-1, float("nan")):
        with pytest.raises(ValueError, match="max_retry_wait"):
            checked_wait(bad)
    for bad in ("1", None, True):
        with pytest.raises(TypeError, match="max_retry_wait"):
            checked_wait(bad)
