"""The transports for httpx."""

from __future__ import annotations

import sys

import httpx  # noqa: ASYNC127 - what is tested is httpx itself
import pytest

import penstock.compat.httpx


def test_they_are_transports_of_it() -> None:
    ours = penstock.compat.httpx
    assert issubclass(ours.AsyncTransport, httpx.AsyncBaseTransport)
    assert issubclass(ours.Transport, httpx.BaseTransport)


def test_without_it_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "penstock.compat.httpx")
    with pytest.raises(ImportError, match=r"penstock\[httpx\]"):
        __import__("penstock.compat.httpx")
