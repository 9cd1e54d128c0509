"""Text completions of the legacy endpoint, /v1/completions: decoded, and put together from pieces.

A piece has the shape of the whole: `choices[].text`, with log probabilities as parallel lists
(`tokens`, `token_logprobs`, `top_logprobs`, `text_offset`). Text and these lists are joined by
choice; of all other members the last one that is not empty counts. Members without a field are
assembled as `merge` says.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from penstock._typed.members import EXTRA
from penstock.types import TextChoice, TextCompletion, TextLogprobs, Usage

from .completion import CompletionStreamDecoder
from .decode import REFUSED, check_objects, tolerant
from .json_values import as_number, as_object, as_text, content_text, count, is_list, objects
from .lenient import build_usage
from .merge import MAX_MEMBERS, Budget, Members
from .sse import LARGE_EVENT
from .unstreamed import whole_completion

__all__ = ["TextAccumulator", "TextCompletionDecoder", "decode_text_completion"]

_COLUMNS = tuple(name for name in TextLogprobs.__struct_fields__ if name != "extra")


def decode_text_completion(data: bytes) -> TextCompletion:
    """Return the completion, or piece of one, that JSON text spells; ChunkDecodeError if none."""
    if len(data) > LARGE_EVENT:
        check_objects(data)
    try:
        completion = msgspec.json.decode(data, type=TextCompletion)
    except REFUSED:
        completion = tolerant(TextCompletion, _build, data)
    completion.raw = data
    return completion


def _build(payload: dict[str, Any]) -> TextCompletion:
    return TextCompletion(
        id=as_text(payload.get("id")),
        object=as_text(payload.get("object")),
        created=as_number(payload.get("created")),
        model=as_text(payload.get("model")),
        choices=[
            TextChoice(
                index=count(choice.get("index")),
                text=content_text(choice.get("text"), "text") or "",
                finish_reason=as_text(choice.get("finish_reason")),
                logprobs=_logprobs(choice.get("logprobs")),
                error=choice.get("error"),
                extra=choice.get(EXTRA, UNSET),
            )
            for choice in objects(payload.get("choices"))
        ],
        usage=build_usage(payload.get("usage")),
        system_fingerprint=as_text(payload.get("system_fingerprint")),
        error=payload.get("error"),
        extra=payload.get(EXTRA, UNSET),
    )


def _logprobs(value: Any) -> TextLogprobs | None:
    lists = as_object(value)
    if not lists:
        return None
    return TextLogprobs(
        **{name: column if is_list(column := lists.get(name)) else [] for name in _COLUMNS},
        extra=lists.get(EXTRA, UNSET),
    )


def has_text(chunk: TextCompletion) -> bool:
    """Return whether a piece has text, or a token without any, as in the middle of a character."""
    return any(
        choice.text or (choice.logprobs is not None and choice.logprobs.tokens)
        for choice in chunk.choices
    )


class TextCompletionDecoder(CompletionStreamDecoder[TextCompletion]):
    """Takes the body of one streamed text completion."""

    __slots__ = ()

    def decode(self, data: bytes, /) -> TextCompletion:
        """Return the chunk of one event's data. Raises ChunkDecodeError."""
        return decode_text_completion(data)

    is_token = staticmethod(has_text)
    whole = staticmethod(partial(whole_completion, chat=False))


class TextAccumulator:
    """Takes pieces as they come; `completion()` is the answer so far, at any time."""

    __slots__ = (
        "_budget",
        "_choices",
        "_created",
        "_fingerprint",
        "_id",
        "_members",
        "_model",
        "_usage",
        "excess",
    )

    def __init__(self) -> None:
        self._budget = Budget()
        self._members = Members(self._budget, increments=False)
        self._id: str | None = None
        self._created: int | float | None = None
        self._model: str | None = None
        self._fingerprint: str | None = None
        self._usage: Usage | None = None
        self._choices: dict[int, _Parts] = {}
        self.excess: str | None = None
        """Which bound the answer exceeds; None if it is within all of them."""

    def extend(self, pieces: Iterable[TextCompletion]) -> None:
        """Add these pieces to the answer."""
        for piece in pieces:
            self._id = self._id or piece.id
            self._created = self._created or piece.created
            self._model = self._model or piece.model
            self._fingerprint = self._fingerprint or piece.system_fingerprint
            if piece.usage is not None:
                self._usage = piece.usage
            if piece.extra:
                self._members.add(piece.extra)
            for choice in piece.choices:
                parts = self._choices.get(choice.index)
                if parts is None:
                    parts = self._choices[choice.index] = _Parts(self._budget)
                parts.text.append(choice.text)
                parts.finish_reason = choice.finish_reason or parts.finish_reason
                if choice.logprobs is not None:
                    parts.add_logprobs(choice.logprobs)
                if choice.extra:
                    parts.members.add(choice.extra)
        if self._budget.left < 0:
            self.excess = f"the answer has more than {MAX_MEMBERS} members without a field"

    def completion(self) -> TextCompletion:
        """Return the answer so far; what comes later does not change it."""
        return TextCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            usage=self._usage,
            extra=self._members.snapshot() or UNSET,
            choices=[parts.choice(index) for index, parts in sorted(self._choices.items())],
        )


class _Parts:
    """The pieces of one choice."""

    __slots__ = ("finish_reason", "logprobs", "logprobs_members", "members", "text")

    def __init__(self, budget: Budget) -> None:
        self.members = Members(budget, increments=False)
        self.logprobs_members = Members(budget, increments=True)
        self.text: list[str] = []
        self.finish_reason: str | None = None
        self.logprobs: dict[str, list[Any]] = {}

    def add_logprobs(self, logprobs: TextLogprobs) -> None:
        for name in _COLUMNS:
            self.logprobs.setdefault(name, []).extend(getattr(logprobs, name) or ())
        if logprobs.extra:
            self.logprobs_members.add(logprobs.extra)

    def choice(self, index: int) -> TextChoice:
        # The pieces collapse, so that a snapshot after each chunk joins each of them once.
        self.text[:] = ["".join(self.text)]
        columns = {name: column[:] for name, column in self.logprobs.items()}
        extra = self.logprobs_members.snapshot()
        return TextChoice(
            index=index,
            text=self.text[0],
            finish_reason=self.finish_reason,
            logprobs=TextLogprobs(**columns, extra=extra or UNSET) if columns else None,
            extra=self.members.snapshot() or UNSET,
        )
