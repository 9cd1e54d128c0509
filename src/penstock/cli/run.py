"""Run an async command until its end or Ctrl-C, on the event loop that was asked for."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from . import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskStatus

    from .. import AsyncClient

__all__ = ["UsageError", "connect", "only_model", "run_async", "run_on"]


class UsageError(Exception):
    """An error that the user can fix: printed as one line, with exit status 1."""


def run_async(command: Callable[[], Awaitable[int]], backend: str) -> int:
    """Return the command's exit status, or 130 if Ctrl-C cancelled it.

    Ctrl-C cancels a scope, on every event loop, so that streams are left as with a timeout:
    each connection is closed and the server stops generating. A second Ctrl-C during that
    raises KeyboardInterrupt.
    """
    return run_on(backend, partial(_until_interrupted, command))


def run_on(backend: str, command: Callable[[], Awaitable[int]]) -> int:
    """Return what the command returns, on this event loop. UsageError if it is not installed."""
    uvloop = backend == "uvloop"
    try:
        return anyio.run(
            command,
            backend="trio" if backend == "trio" else "asyncio",
            backend_options={"use_uvloop": True} if uvloop else None,
        )
    except (LookupError, ImportError) as error:
        if _installed(backend):
            raise
        raise UsageError(f"the backend {backend} needs: pip install {backend}") from error


def _installed(backend: str) -> bool:
    from importlib.util import find_spec

    return find_spec(backend) is not None


async def _until_interrupted(command: Callable[[], Awaitable[int]]) -> int:
    status = INTERRUPTED
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(_cancel_on_interrupt, tasks.cancel_scope)
        try:
            status = await command()
        except Exception as error:  # noqa: BLE001 - raised below, without an ExceptionGroup
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return status


async def _cancel_on_interrupt(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    try:
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            task_status.started()
            await anext(signals)
    except NotImplementedError:  # asyncio on Windows: KeyboardInterrupt does it, less gently
        task_status.started()
        await anyio.sleep_forever()
    scope.cancel()


def connect(
    provider: str | None,
    base_url: str | None = None,
    api_key_env: str | None = None,
    **options: Any,
) -> AsyncClient:
    """Return a client for a provider, with settings from the environment, or for a base URL.

    A provider's key is never sent to a base URL given on the command line. `options` are further
    arguments of the client.
    """
    from .. import AsyncClient

    try:
        if base_url is None:
            return AsyncClient.from_env(provider or "openai", **options)
        key = None
        if api_key_env is not None:
            key = os.environ.get(api_key_env)
            if not key:
                raise UsageError(f"the environment variable {api_key_env} is not set")
        return AsyncClient(base_url, api_key=key, **options)
    except ValueError as error:  # a bad URL, or no key
        # The message names arguments of the client; here they are options.
        words = str(error).replace("pass api_key=", "name another server with --base-url")
        words = words.replace(": base_url is", " is").replace("base_url is", "--base-url is")
        raise UsageError(words) from error


async def only_model(client: AsyncClient) -> str:
    """Return the server's only model. If it has several, the UsageError names them."""
    names = [model.id for model in await client.models.list()]
    if len(names) == 1:
        return names[0]
    some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    raise UsageError(f"choose a model with --model; the server has {some or 'none'}")
