"""Where the API key of each attempt comes from."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from penstock._client.api_key import key_source
from penstock.testing.plugin import virtual_backend as anyio_backend
from tests.support.chat import KEY

__all__ = ["anyio_backend"]


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
