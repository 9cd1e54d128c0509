"""Assembles a streamed answer from its chunks.

Rules 5 to 9 of the wire (docs/pages/internals/wire.md): any member may be absent; text comes
in pieces that are joined, never compared, so equal deltas stay; reasoning comes under either
of two names, or under both at once; usage comes on any chunk, in one of three places, and is
never summed. Empty strings and null overwrite nothing.

    id, created, model, system_fingerprint, role    the first that is not empty
    service_tier, finish_reason, usage              the last that is not empty
    content, refusal, reasoning, arguments          joined
    logprobs, annotations, token_ids                concatenated
    members without a field                         as `merge` says
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from penstock.types import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    TokenLogprob,
    ToolCall,
    Usage,
)

from .merge import MAX_MEMBERS, Budget, Members
from .tool_calls import ToolCalls

__all__ = [
    "MAX_TOOL_CALLS",
    "Accumulator",
]

T = TypeVar("T")

MAX_TOOL_CALLS = 16384
"""Bound on the tool calls of one answer, all its choices together."""


# What a server repeats beside the deltas (rule 9).
_CUMULATIVE = "message"


class Accumulator:
    """Takes chunks as they come; `completion()` returns the answer so far, at any time."""

    __slots__ = (
        "_budget",
        "_choices",
        "_created",
        "_fingerprint",
        "_id",
        "_members",
        "_model",
        "_tier",
        "_usage",
        "_usage_members",
        "excess",
        "tool_calls",
    )

    def __init__(self) -> None:
        self._id: str | None = None
        self._created: int | float | None = None
        self._model: str | None = None
        self._fingerprint: str | None = None
        self._tier: str | None = None
        self._usage: Usage | None = None
        # By index, which may be any number, also 2**31.
        self._choices: dict[int, _ChoiceParts] = {}
        # Here and in each choice: what most answers do not have is made when it comes.
        self._budget = Budget()
        self._members: Members | None = None
        self._usage_members: Members | None = None
        self.tool_calls = 0
        """Tool calls so far, of all choices."""
        self.excess: str | None = None
        """Which bound the answer exceeds; None if it is within all of them.

        The caller must stop extending then. Members over the bound are left out.
        """

    def extend(self, chunks: Iterable[ChatCompletionChunk]) -> None:
        """Add these chunks to the answer.

        This runs once for each token, so the loop only joins text. Anything else is rare and
        left to methods.
        """
        choices = self._choices
        unset = UNSET
        known = self._id and self._created and self._model
        fingerprint, tier = self._fingerprint, self._tier
        for chunk in chunks:
            if (
                not known
                or chunk.usage is not None
                or chunk.x_groq is not None
                or (not fingerprint and chunk.system_fingerprint)
                or (chunk.service_tier is not None and chunk.service_tier != tier)
            ):
                self._add_head(chunk)
                known = self._id and self._created and self._model
                fingerprint, tier = self._fingerprint, self._tier
            for choice in chunk.choices:
                parts = choices.get(choice.index)
                if parts is None:
                    parts = choices[choice.index] = _ChoiceParts(self._budget)
                delta = choice.delta
                if delta.content is not None:
                    parts.content.append(delta.content)
                if (
                    choice.finish_reason is not None
                    or delta.tool_calls is not None
                    or delta.reasoning_content_field is not None
                    or delta.reasoning_field is not None
                    or choice.logprobs is not None
                    or choice.token_ids is not None
                    or delta.role is not None
                    or delta.refusal is not None
                    or delta.annotations is not None
                ):
                    self.tool_calls += parts.add(choice)
                    if self.tool_calls > MAX_TOOL_CALLS:
                        self.excess = f"the answer has more than {MAX_TOOL_CALLS} tool calls"
                if choice.usage is not None and not _counts_something(chunk.usage):
                    self._add_usage(choice.usage)
            if chunk.extra is not unset:
                self._add_members(chunk)

    def completion(self) -> ChatCompletion:
        """Return the answer so far; later chunks do not change it."""
        return ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            service_tier=self._tier,
            usage=self._whole_usage(),
            extra=_snapshot(self._members) or UNSET,
            choices=[parts.choice(index) for index, parts in sorted(self._choices.items())],
        )

    def take_complete_call(self, *, ended: bool) -> ToolCall | None:
        """Return a complete tool call of choice 0, each one once; None if there is none by now.

        `ended` says that no further chunk comes.
        """
        parts = self._choices.get(0)
        if parts is None or parts.tool_calls is None:
            return None
        finished = parts.finish_reason is not None
        return parts.tool_calls.take_complete(finished=finished, ended=ended)

    def _add_head(self, chunk: ChatCompletionChunk) -> None:
        self._id = self._id or chunk.id
        self._created = self._created or chunk.created
        self._model = self._model or chunk.model
        self._fingerprint = self._fingerprint or chunk.system_fingerprint
        self._tier = chunk.service_tier or self._tier
        if chunk.x_groq is not None:
            self._add_usage(chunk.x_groq.usage)
            self._add_own({"x_groq": chunk.x_groq.to_dict()})
        self._add_usage(chunk.usage)

    def _add_own(self, members: dict[str, Any]) -> None:
        if self._members is None:
            self._members = Members(self._budget, increments=False)
        self._members.add(members)

    def _add_usage(self, usage: Usage | None) -> None:
        if _counts_something(usage):
            self._usage = usage
        if usage is not None and usage.extra:
            if self._usage_members is None:
                self._usage_members = Members(self._budget, increments=False)
            self._usage_members.add(usage.extra)

    def _add_members(self, chunk: ChatCompletionChunk) -> None:
        """Add the members without a field of this chunk and its choices."""
        if chunk.extra:
            self._add_own(chunk.extra)
        for choice in chunk.choices:
            self._choices[choice.index].add_members(choice)
        if self._budget.left < 0:
            self.excess = f"the answer has more than {MAX_MEMBERS} members without a field"

    def _whole_usage(self) -> Usage | None:
        extra = _snapshot(self._usage_members)
        if not extra:
            return self._usage
        return msgspec.structs.replace(self._usage or Usage(), extra=extra)


def _counts_something(usage: Usage | None) -> bool:
    return usage is not None and bool(
        usage.prompt_tokens or usage.completion_tokens or usage.total_tokens
    )


class _ChoiceParts:
    """The pieces of one choice."""

    __slots__ = (
        "_budget",
        "annotations",
        "content",
        "delta_members",
        "finish_reason",
        "logprobs",
        "logprobs_members",
        "members",
        "reasoning",
        "reasoning_is_content",
        "refusal",
        "refusal_logprobs",
        "role",
        "token_ids",
        "tool_calls",
    )

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.role: str | None = None
        self.content: list[str] = []
        self.refusal: list[str] | None = None
        self.reasoning: list[str] | None = None
        self.reasoning_is_content = False  # some of it came as `reasoning_content`
        self.tool_calls: ToolCalls | None = None
        self.annotations: list[Any] | None = None
        self.logprobs: list[TokenLogprob] | None = None
        self.refusal_logprobs: list[TokenLogprob] | None = None
        self.token_ids: list[int] | None = None
        self.finish_reason: str | None = None
        self.members: Members | None = None
        self.delta_members: Members | None = None
        self.logprobs_members: Members | None = None

    def add(self, choice: ChunkChoice) -> int:
        """Add all of this piece except its content; return how many tool calls it opened."""
        delta = choice.delta
        self.role = self.role or delta.role
        self.finish_reason = choice.finish_reason or self.finish_reason
        if delta.refusal is not None:
            self.refusal = self.refusal or []
            self.refusal.append(delta.refusal)
        if delta.reasoning:
            self.reasoning = self.reasoning or []
            self.reasoning.append(delta.reasoning)
            self.reasoning_is_content |= bool(delta.reasoning_content_field)
        opened = 0
        if delta.tool_calls:
            if self.tool_calls is None:
                self.tool_calls = ToolCalls(self._budget)
            before = len(self.tool_calls)
            for piece in delta.tool_calls:
                self.tool_calls.add(piece)
            opened = len(self.tool_calls) - before
        if delta.annotations:
            self.annotations = self.annotations or []
            self.annotations += delta.annotations
        if choice.logprobs is not None:
            self._add_logprobs(choice.logprobs)
        if choice.token_ids is not None:
            if self.token_ids is None:
                self.token_ids = []
            self.token_ids += choice.token_ids
        return opened

    def _add_logprobs(self, logprobs: ChoiceLogprobs) -> None:
        if logprobs.content:
            self.logprobs = self.logprobs or []
            self.logprobs += logprobs.content
        if logprobs.refusal:
            self.refusal_logprobs = self.refusal_logprobs or []
            self.refusal_logprobs += logprobs.refusal

    def add_members(self, choice: ChunkChoice) -> None:
        """Add the members of this piece that have no field."""
        if choice.extra:
            given = choice.extra
            if _CUMULATIVE in given:
                given = {name: value for name, value in given.items() if name != _CUMULATIVE}
            if self.members is None:
                self.members = Members(self._budget, increments=False)
            self.members.add(given)
        if choice.delta.extra:
            if self.delta_members is None:
                self.delta_members = Members(self._budget, increments=True)
            self.delta_members.add(choice.delta.extra)
        if choice.logprobs is not None and choice.logprobs.extra:
            if self.logprobs_members is None:
                self.logprobs_members = Members(self._budget, increments=True)
            self.logprobs_members.add(choice.logprobs.extra)

    def choice(self, index: int) -> Choice:
        """Return the choice so far, in objects of its own."""
        reasoning = _joined(self.reasoning)
        logprobs = None
        logprobs_extra = _snapshot(self.logprobs_members)
        if self.logprobs or self.refusal_logprobs or logprobs_extra:
            logprobs = ChoiceLogprobs(
                content=_copy(self.logprobs),
                refusal=_copy(self.refusal_logprobs),
                extra=logprobs_extra or UNSET,
            )
        extra = _snapshot(self.members)
        if self.token_ids is not None:
            extra["token_ids"] = self.token_ids[:]
        return Choice(
            index=index,
            message=ChatCompletionMessage(
                role=self.role or "assistant",
                content=_joined(self.content),
                refusal=_joined(self.refusal),
                # Under the name the server used, which it wants back in `messages`.
                reasoning_field=None if self.reasoning_is_content else reasoning,
                reasoning_content_field=reasoning if self.reasoning_is_content else None,
                tool_calls=(None if self.tool_calls is None else self.tool_calls.whole()) or None,
                annotations=_copy(self.annotations),
                extra=_snapshot(self.delta_members) or UNSET,
            ),
            finish_reason=self.finish_reason,
            logprobs=logprobs,
            extra=extra or UNSET,
        )


def _snapshot(members: Members | None) -> dict[str, Any]:
    return {} if members is None else members.snapshot()


def _copy(items: list[T] | None) -> list[T] | None:
    return items[:] if items else None


def _joined(pieces: list[str] | None) -> str | None:
    if pieces is None:
        return None
    # Keep the joined text, so that a snapshot after each chunk joins each piece once.
    if len(pieces) > 1:
        pieces[:] = ["".join(pieces)]
    return pieces[0] if pieces else None
