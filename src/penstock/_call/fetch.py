"""A call whose answer is read as a whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import anyio

from .._http.exchange import Exchange
from .._wire.labels import Labels, labels_in
from .._wire.usage import usage_in
from .._wire.whole_answer import WholeAnswer
from ..errors import APIResponseError, PenstockError
from ..types import ChatCompletion, TextCompletion, Usage
from .body import BodyReader
from .call import Call, Service

__all__ = ["Fetch", "RawAnswer"]

R = TypeVar("R")

Decode = Callable[[Exchange, bytes], R]
"""Makes a value of an exchange and its whole body; raises a PenstockError if there is none."""


class RawAnswer(NamedTuple):
    """An answer whose body is left as it is."""

    exchange: Exchange
    content: bytes

    @property
    def usage(self) -> Usage | None:
        """The tokens that the body reports; looked for when it is asked for."""
        return usage_in(self.content)


class Fetch(BodyReader[R], Generic[R]):
    """One call and its whole answer, which is the single item of this reader."""

    __slots__ = ("_decode", "_sentinel")

    def __init__(
        self, service: Service, call: Call, decode: Decode[R], *, sentinel: bool = False
    ) -> None:
        super().__init__(service, call)
        self._decode = decode
        self._sentinel = sentinel

    def new_decoder(self, exchange: Exchange) -> WholeAnswer[R]:
        """Return what collects the body."""
        return WholeAnswer(
            partial(self._decode, exchange),
            sentinel=self._sentinel,
            choices=self.sender.call.choices,
        )

    async def run(self) -> R:
        """Return the answer.

        Sent again only while no byte of the body has arrived. Raises PenstockError. Cancelled or
        failed, nothing stays open.
        """
        try:
            while await self.fill():
                pass
        except PenstockError:
            await self.aclose("failed")  # noqa: ASYNC120 - closing shields what it must
            raise
        except anyio.get_cancelled_exc_class():
            await self.aclose("cancelled")  # noqa: ASYNC102 - closing shields what it must
            raise
        except BaseException:
            await self.aclose("failed")  # noqa: ASYNC102, ASYNC120 - closing shields what it must
            raise
        return self.batch[0]

    def explain(self, error: PenstockError) -> None:
        """Add what the head said to an error about the body."""
        if isinstance(error, APIResponseError) and error.status_code is None:
            error.status_code = self._exchange.status
            error.headers = self._exchange.headers

    def answer(self) -> ChatCompletion | TextCompletion | None:
        """Return the completion, for observers; None for other answers."""
        answer: object = self.batch[0] if self.batch else None
        return answer if isinstance(answer, (ChatCompletion, TextCompletion)) else None

    def usage(self) -> Usage | None:
        """Return the tokens the answer has cost, as far as the server said."""
        answer = self.batch[0] if self.batch else None
        usage: Usage | None = getattr(answer, "usage", None)
        return usage

    def labels(self) -> Labels:
        """Return what the body says of its answer."""
        answer: object = self.batch[0] if self.batch else None
        return labels_in(answer.content) if isinstance(answer, RawAnswer) else Labels()

    def redaction(self) -> Callable[[PenstockError], PenstockError]:
        """What masks the key in later errors; it holds the secrets alone, no connection."""
        return self.sender.secrets.mask
