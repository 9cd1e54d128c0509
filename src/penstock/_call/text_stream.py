"""One streamed text completion of the legacy endpoint, as its user sees it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import final

from .._http.exchange import Exchange
from .._wire.status import with_headers
from .._wire.text_completion import TextAccumulator, TextCompletionDecoder
from ..types import TextCompletion
from .base_stream import BaseStream
from .call import Call, Service
from .reader import AnswerReader
from .views import TextView, text_of

__all__ = ["TextCompletionStream"]


class TextReader(AnswerReader[TextCompletion, TextCompletion]):
    """Reads the pieces of one text completion."""

    __slots__ = ()

    def __init__(self, service: Service, call: Call) -> None:
        super().__init__(service, call, TextAccumulator())

    def new_decoder(self, exchange: Exchange) -> TextCompletionDecoder:
        """Return the decoder for a body whose head is in."""
        content_type = exchange.content_type
        return TextCompletionDecoder(content_type, choices=self.sender.call.choices)


@final
class TextCompletionStream(BaseStream[TextCompletion]):
    """A text completion as it is generated: an async iterator of `TextCompletion` pieces.

    Made by `client.completions.stream(...)` without any I/O. It keeps the rules of
    `CompletionStream`: iteration ends only when the server has finished, leaving `async with`
    closes the connection at once, a cancelled read loses nothing.
    """

    __slots__ = ()

    _reader: TextReader

    def __init__(self, service: Service, call: Call) -> None:
        super().__init__(TextReader(service, call))

    async def first_token(self) -> bool:
        """Read ahead until text has come; False when the answer ends without any.

        What was read is still handed out by the reads that follow. Cancelled, it loses
        nothing. Raises as reading does.
        """
        while math.isnan(self._reader.timings.first_token):
            if not await self._reader.fill():
                return False
        return True

    async def collect(self) -> TextCompletion:
        """Read what is left and return the whole completion, from its first piece on.

        Cancelled, it loses nothing and may be called again. Raises as reading does.
        """
        reader = self._reader
        reader.pos = len(reader.batch)
        while await reader.fill():
            reader.pos = len(reader.batch)
        return with_headers(self.partial, self.headers)

    @property
    def text(self) -> AsyncIterator[str]:
        """The text alone: pieces of choice 0, never empty. Reads this very stream."""
        return TextView(self, text_of)

    @property
    def partial(self) -> TextCompletion:
        """The completion as far as it was handed out, at any time, also after a failure."""
        return self._reader.partial
