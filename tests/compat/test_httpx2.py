"""The transports for httpx2."""

from __future__ import annotations

import sys

import httpx2
import pytest

import penstock.compat.httpx2


def test_they_are_transports_of_it() -> None:
    ours = penstock.compat.httpx2
    assert issubclass(ours.AsyncTransport, httpx2.AsyncBaseTransport)
    assert issubclass(ours.Transport, httpx2.BaseTransport)


def test_without_it_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    monkeypatch.delitem(sys.modules, "penstock.compat.httpx2")
    with pytest.raises(ImportError, match=r"penstock\[httpx2\]"):
        __import__("penstock.compat.httpx2")
