"""What a client and its resources share."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from penstock import APIResponseError, Headers, Response
from penstock._client.endpoint import checked_keepalive, checked_retries, checked_wait, key_source
from penstock.testing.plugin import virtual_backend as anyio_backend
from tests.support.chat import KEY

__all__ = ["anyio_backend"]


# --- Response ---


def response(content: bytes) -> Response:
    return Response(200, Headers([("X-Request-Id", "req-1"), ("a", "1"), ("A", "2")]), content)


def test_a_response() -> None:
    answer = response(b'{"a": [1, 2.5, null]}')
    assert answer.json() == {"a": [1, 2.5, None]}
    assert answer.json() is not answer.json()
    assert answer.request_id == "req-1"
    assert answer.headers["A"] == "1, 2"
    assert repr(answer) == "<Response 200, 21 bytes>"


def test_a_response_is_a_value() -> None:
    answer = response(b"x")
    for again in (copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
        assert (again.status_code, dict(again.headers), again.content) == (
            200,
            dict(answer.headers),
            b"x",
        )


def test_what_is_no_json_says_so_with_all_there_is() -> None:
    with pytest.raises(APIResponseError, match="not JSON") as caught:
        response(b"<html>" + b"x" * 10_000).json()
    error = caught.value
    assert (error.status_code, error.request_id) == (200, "req-1")
    assert error.headers["a"] == "1, 2"
    assert error.body is not None
    assert error.body.startswith("<html>x")
    assert len(error.body) == 4096


# --- numbers ---


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


# --- keys ---


class Vault:
    """A callable object."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def __call__(self) -> Any:
        return self.key


class AsyncVault(Vault):
    async def __call__(self) -> Any:
        await anyio.lowlevel.checkpoint()
        return self.key


@pytest.mark.anyio
@pytest.mark.parametrize("source", [KEY, Vault(KEY), AsyncVault(KEY), lambda: KEY])
async def test_keys_from_everywhere(source: Any) -> None:
    asked = key_source(source)
    assert [await asked(), await asked()] == [KEY, KEY]
    assert KEY not in repr(asked)


@pytest.mark.anyio
async def test_no_key_at_all() -> None:
    assert await key_source(None)() is None


@pytest.mark.parametrize("key", ["", "a b", "a\n", "é"])
def test_a_fixed_key_is_checked_at_once(key: str) -> None:
    with pytest.raises(ValueError, match="API key"):
        key_source(key)


@pytest.mark.parametrize("key", [5, b"sk", ["sk"], True])
def test_what_is_neither_a_key_nor_callable(key: Any) -> None:
    with pytest.raises(TypeError, match="API key"):
        key_source(key)


@pytest.mark.anyio
@pytest.mark.parametrize("vault", [Vault, AsyncVault])
@pytest.mark.parametrize(("key", "kind"), [("", ValueError), ("a\nb", ValueError), (5, TypeError)])
async def test_a_key_that_is_asked_for_is_checked_when_it_comes(
    vault: type[Vault], key: Any, kind: type[Exception]
) -> None:
    asked = key_source(vault(key))
    with pytest.raises(kind, match="API key"):
        await asked()
