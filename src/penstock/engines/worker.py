"""What one event loop of one process needs to ask rows: client, limiter and the rules."""

from __future__ import annotations

import os
from functools import partial
from typing import Any, Literal

import msgspec

from .. import providers
from .._client.client import AsyncClient
from .._limiter.limiter import Limiter
from .._wire.request import checked_key
from .._wire.url import BaseURL
from ..batch.asking import Asker, OnCut, Policy
from ..batch.outcomes import Failure, Outcome
from ..batch.rows import Row
from ..errors import PenstockError
from ..providers import Provider
from ..timeouts import Timeouts

__all__ = ["Settings", "Worker", "checked_count"]


class Settings(msgspec.Struct, frozen=True):
    """The settings of `Completions` that concern requests, without any key.

    TypeError or ValueError for values that make no sense.
    """

    base_url: str | None
    provider: Provider | str
    api_key_env: str | None
    concurrency: int
    per_second: float | None
    adaptive: bool
    max_retries: int
    patience: float
    timeouts: Timeouts
    on_cut: OnCut
    on_refused: Literal["raise", "row"]
    stream: bool

    def __post_init__(self) -> None:
        providers.get(self.provider)
        if self.base_url is not None:
            BaseURL.parse(self.base_url)
        variable: object = self.api_key_env
        if variable is not None and not isinstance(variable, str):
            raise TypeError("api_key_env must be the name of an environment variable")
        if variable == "":
            raise ValueError("api_key_env is empty: give the name of an environment variable")
        timeouts: object = self.timeouts
        if not isinstance(timeouts, Timeouts):
            raise TypeError(f"timeouts must be penstock.Timeouts, not {type(timeouts).__name__}")
        checked_count("concurrency", self.concurrency)
        if self.on_refused not in ("raise", "row"):
            raise ValueError(f'on_refused is {self.on_refused!r}: give "raise" or "row"')
        self.limiter()
        self.policy()

    def client(self) -> AsyncClient:
        """Return a new client. ValueError names the environment variable that has no key."""
        key = None
        if self.api_key_env is not None:
            # Asked for at each attempt, so a key that is renewed is used.
            key = partial(_key, self.api_key_env)
            key()
        return AsyncClient(
            self.base_url,
            api_key=key,
            provider=self.provider,
            timeouts=self.timeouts,
            max_retries=0,
        )

    def limiter(self) -> Limiter:
        """Return a new limiter."""
        return Limiter(self.concurrency, adaptive=self.adaptive, per_second=self.per_second)

    def policy(self) -> Policy:
        """Return what is done about failures. There is no fuse: an engine has no half a job."""
        return Policy(
            max_retries=self.max_retries,
            patience=self.patience,
            on_cut=self.on_cut,
            stream=self.stream,
            on_refused="stop" if self.on_refused == "raise" else "row",
            fuse=None,
        )


def checked_count(name: str, number: object) -> int:
    """Return a whole number above 0; TypeError or ValueError names what is none."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} must be a whole number, not {number!r}")
    if number < 1:
        raise ValueError(f"{name} is {number}: give a positive number")
    return number


def _key(variable: str) -> str:
    if not os.environ.get(variable, "").strip():
        raise ValueError(f"no API key: set the environment variable {variable} in each worker")
    try:
        return checked_key(os.environ[variable].strip())
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from None


class Worker:
    """Asks rows in one event loop."""

    def __init__(self, settings: Settings, owners: dict[Any, Worker], loop: Any) -> None:
        self._client = settings.client()
        self._limiter = settings.limiter()
        self._policy = settings.policy()
        self._asker = Asker(self._client, self._limiter, self._policy)
        self._away = False
        """True if the server has not answered for `patience`, nor since."""
        self._owners = owners
        self._loop = loop

    async def ask(self, row: Row) -> Outcome | Failure | PenstockError:
        """Return what became of the row, or the error that says that the account is refused.

        A Failure stands for a row that was given up while the server was away.
        """
        asker = self._asker
        outcome = await asker.ask(0, row)
        if outcome is None:
            return self._stopped(asker)
        if self._away and outcome.status_code is not None and asker is self._asker:
            self._away = False
            self._asker = Asker(self._client, self._limiter, self._policy)
        return outcome

    def _stopped(self, asker: Asker) -> Failure | PenstockError:
        if asker.refusal is not None:
            return asker.refusal
        if asker is self._asker:
            # Patience is spent once. From now on a row fails with its first request, as long as
            # none is answered.
            self._away = True
            impatient = msgspec.structs.replace(self._policy, patience=0.0)
            self._asker = Asker(self._client, self._limiter, impatient)
        latest = asker.outage or Failure("connection", "the server was not reached")
        spent = f"no answer for {self._policy.patience:g} s: {latest.message}"
        return Failure(latest.code, spent, latest.status_code)

    def close(self) -> None:
        """Close all connections at once, from anywhere. Idempotent."""
        if self._owners.get(self._loop) is self:
            self._owners.pop(self._loop, None)
        self._client.close()
