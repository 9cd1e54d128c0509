"""Messages of the assistant, whole and in pieces."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from .._typed.members import is_list, is_object
from .base import Part, list_of, part_of
from .tool_calls import Function, ToolCall, ToolCallDelta

__all__ = ["Audio", "ChatCompletionMessage", "ChoiceDelta", "MessageMembers"]


class Audio(Part, kw_only=True, omit_defaults=True):
    """Spoken answer."""

    id: str | None = None
    """Names the audio in a later request."""
    data: str | None = None
    """The sound as base64 text, in the format the request asked for."""
    transcript: str | None = None
    """What is said."""
    expires_at: int | float | None = None
    """Until when the server knows the id, in seconds since the epoch."""


class MessageMembers(Part, kw_only=True, omit_defaults=True):
    """What deltas and messages share: reasoning, and members that few answers have."""

    reasoning_field: str | None = msgspec.field(default=None, name="reasoning")
    """The member `reasoning` alone; read `reasoning` instead."""
    reasoning_content_field: str | None = msgspec.field(default=None, name="reasoning_content")
    """The member `reasoning_content` alone; read `reasoning` instead."""

    @property
    def reasoning(self) -> str | None:
        """The reasoning text, under whichever name it came; None if there is none."""
        return self.reasoning_content_field or self.reasoning_field

    @property
    def reasoning_content(self) -> str | None:
        """The same text as `reasoning`."""
        return self.reasoning_content_field or self.reasoning_field

    @property
    def audio(self) -> Audio | None:
        """Spoken answer, or the next piece of it; None if there is none."""
        return part_of(Audio, self.extra, "audio")

    @property
    def images(self) -> list[Any] | None:
        """Generated images as parsed JSON (OpenRouter's members); None if there are none."""
        return list_of(self.extra, "images")

    @property
    def function_call(self) -> Function | None:
        """Call in the form before `tool_calls`, or the next piece of it; None if there is none."""
        return part_of(Function, self.extra, "function_call")


class ChoiceDelta(MessageMembers, kw_only=True, gc=False, omit_defaults=True):
    """What one chunk adds to a choice's message. A part that is absent is None."""

    role: str | None = None
    """Role of the message; usually only in the first chunk."""
    content: str | None = None
    """The next piece of the text."""
    refusal: str | None = None
    """The next piece of the model's refusal."""
    tool_calls: list[ToolCallDelta] | None = None
    """Pieces of tool calls."""
    annotations: list[Any] | None = None
    """Further annotations of the text (citations, for instance), as parsed JSON."""


class ChatCompletionMessage(MessageMembers, kw_only=True, omit_defaults=True):
    """A whole message of the assistant; it may go back into `messages` as it is.

    It then behaves as `for_request()` says, by the server the request goes to.
    """

    # A factory, because omit_defaults would leave out a plain default, and no server
    # accepts a message without its role.
    role: str = msgspec.field(default_factory="assistant".__str__)
    """Role of the message: assistant, unless the server says otherwise."""
    content: str | None = None
    """The text; None if there is none, as in a message that only calls tools."""
    refusal: str | None = None
    """The model's refusal; None if it did not refuse."""
    tool_calls: list[ToolCall] | None = None
    """The tool calls, in their order; None if there are none."""
    annotations: list[Any] | None = None
    """Annotations of the text (citations, for instance), as parsed JSON."""

    @property
    def parsed(self) -> Any:
        """The content as a value, if `response_format` was a type; else None."""
        return None

    def for_request(
        self, reasoning: bool | Literal["auto"] = "auto", *, provider: str | None = None
    ) -> dict[str, Any]:
        """Return the message as it stands in `messages` of a later request.

        `reasoning` says whether the model's reasoning goes back: True, as it came; False, not
        at all; "auto", as the provider of that name wants it. Groq and Cerebras refuse it,
        DeepSeek wants `reasoning_content`, OpenRouter `reasoning` and `reasoning_details`;
        others get it as it came.
        """
        message: dict[str, Any] = _finite(self.to_dict())
        wanted = _REASONING_OF.get(provider or "") if reasoning == "auto" else None
        if reasoning is False or wanted == "":
            for name in _REASONING:
                message.pop(name, None)
        elif wanted:
            text = self.reasoning
            for name in ("reasoning", "reasoning_content"):
                message.pop(name, None)
            if text:
                message[wanted] = text
        return message


def _finite(value: Any) -> Any:
    """Return the value with None for NaN and infinity, which no request may have."""
    if is_object(value):
        return {name: _finite(item) for name, item in value.items()}
    if is_list(value):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# Members of a message that carry reasoning.
_REASONING = ("reasoning", "reasoning_content", "reasoning_details")


# Under which name a provider wants reasoning text back; "" if it answers 400 to any.
_REASONING_OF = {
    "cerebras": "",
    "groq": "",
    "deepseek": "reasoning_content",
    "openrouter": "reasoning",
}
