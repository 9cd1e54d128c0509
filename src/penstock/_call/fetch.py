"""A call whose answer is read as a whole."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from .._http.exchange import Exchange
from .._wire.status import request_id
from ..errors import PenstockError
from ..types import Usage
from .attempts import Sender
from .call import Call, Service
from .redact import redact_error

__all__ = ["MAX_BODY_BYTES", "Fetch"]

MAX_BODY_BYTES = 256 * 1024 * 1024
"""Bound of a body that is read as a whole; embeddings of a large batch are tens of MiB."""


class Fetch:
    """One call and its whole answer.

    Use `run`, then, when the body has been understood, `finish`. Cancelled or failed,
    nothing stays open.
    """

    def __init__(self, service: Service, call: Call) -> None:
        self._sender = Sender(service, call)

    @property
    def request_id(self) -> str | None:
        """The server's id of the request, when it gave one."""
        exchange = self._sender.exchange
        return None if exchange is None else request_id(exchange.headers)

    async def run(self) -> tuple[Exchange, bytes]:
        """The exchange, for status and headers, and the body.

        Sent again only while no byte of the body has arrived. Raises PenstockError.
        """
        sender = self._sender
        try:
            try:
                return await self._read()
            finally:
                # After a whole answer nothing is left to drain, after anything else no time.
                await sender.settle()  # noqa: ASYNC102 - closing shields what it has to
        except Exception as error:
            sender.report_finished("failed", error)
            raise
        except anyio.get_cancelled_exc_class():
            # In settling as well: asyncio's own cancellation goes through shields.
            sender.report_finished("cancelled", None)
            raise

    async def _read(self) -> tuple[Exchange, bytes]:
        sender = self._sender
        failed: PenstockError | None = None
        while True:
            exchange = await sender.open(failed)
            try:
                body = await exchange.read_all(MAX_BODY_BYTES)
            except Exception as error:
                public = sender.translate(error)
                if not isinstance(public, PenstockError):
                    raise
                if public is not error:
                    public.__cause__ = error
                if exchange.body_bytes:
                    raise sender.redacted(public) from error
                failed = public
            else:
                sender.succeeded()
                return exchange, body

    def redacted(self, error: PenstockError) -> PenstockError:
        """The error without the key, reported to the observer."""
        error = self._sender.redacted(error)
        self._sender.report_finished("failed", error)
        return error

    def redaction(self) -> Callable[[PenstockError], PenstockError]:
        """What masks the key in later errors; it holds the secrets alone, no connection."""
        secrets = self._sender.secrets()
        return lambda error: redact_error(error, *secrets)

    def finish(self, usage: Usage | None = None) -> None:
        """The answer was understood."""
        self._sender.report_finished("completed", None, lambda: usage)
