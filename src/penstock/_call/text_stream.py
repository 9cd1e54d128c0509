"""One streamed text completion of the legacy endpoint, as its user sees it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast, final

from .._http.exchange import Exchange
from .._wire.status import with_headers
from .._wire.text_completion import TextAccumulator, TextCompletionDecoder
from .._wire.token import has_prompt_progress
from ..errors import PenstockError
from ..types import TextCompletion, Usage
from .base_stream import BaseStream
from .body import BodyReader
from .call import Call, Service
from .views import TextView, text_of

__all__ = ["TextCompletionStream"]


class TextReader(BodyReader[TextCompletion]):
    """Reads the chunks of one text completion, and adds up those that were handed out."""

    __slots__ = ("_folded", "accumulator")

    def __init__(self, service: Service, call: Call) -> None:
        super().__init__(service, call)
        self.accumulator = TextAccumulator()
        """What was handed out, as far as it is folded."""
        self._folded = 0
        """How much of the batch is in the accumulator."""

    def new_decoder(self, exchange: Exchange) -> TextCompletionDecoder:
        """Return the decoder for a body whose head is in."""
        content_type = exchange.headers.get("content-type")
        return TextCompletionDecoder(content_type, choices=self.sender.call.choices)

    def arrived(self, items: Sequence[TextCompletion]) -> PenstockError | None:
        """Add what was handed out to the answer."""
        self.fold()
        self._folded = 0
        if math.isnan(self.timings.first_token) and any(map(has_prompt_progress, items)):
            self.sender.limits.prompt_progressed()
        return None

    def fold(self) -> None:
        """Add what has been handed out since to the accumulated answer."""
        if self._folded < self.pos:
            self.accumulator.extend(self.batch[self._folded : self.pos])
            self._folded = self.pos

    @property
    def partial(self) -> TextCompletion:
        """The completion as far as it was handed out."""
        self.fold()
        return self.accumulator.completion()

    def explain(self, error: PenstockError) -> None:
        """Attach the answer so far."""
        error.partial = cast("Any", self.partial)  # its type is the chat's

    def usage(self) -> Usage | None:
        """Return the tokens the answer has cost, as far as the server said."""
        return self.partial.usage

    def forget(self) -> None:
        """Drop what was read and not handed out; what was handed out stays in `partial`."""
        self.fold()
        super().forget()
        self._folded = self.pos


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
