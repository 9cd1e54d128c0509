"""Which server a command asks, by the options of `add_server`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .local import local_server
from .run import UsageError, connect

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator

    from .. import AsyncClient

__all__ = ["client_for", "server_of"]


@contextmanager
def server_of(arguments: argparse.Namespace, *, parallel: int) -> Generator[str | None]:
    """Yield the base URL that the options of `add_server` say; None is the provider's own.

    With `--local` the embedded model serves during the block.
    """
    if arguments.api_key_env is not None and arguments.base_url is None:
        raise UsageError("--api-key-env needs --base-url; a provider has its own variable")
    if arguments.local:
        with local_server(parallel=parallel) as server:
            yield server.base_url
    else:
        yield arguments.base_url


def client_for(arguments: argparse.Namespace, base_url: str | None, **options: Any) -> AsyncClient:
    """Return a client for the server that the options of `add_server` say."""
    return connect(arguments.provider, base_url, arguments.api_key_env, **options)
