"""Structured output: an answer asked for, and given, as a value of a type.

The type is what msgspec decodes (a Struct, a dataclass, a TypedDict, an attrs class, `list[int]`,
a union, ...) or a Pydantic model. `OutputType` is the request's side of it, `ParsedCompletion`
the answer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from ._typed.decoding import decode_as, is_value, name_of
from ._typed.schema import MEMBER, schema_name, strict_schema
from .errors import StructuredOutputError, StructuredOutputReason
from .types import ChatCompletion, ChatCompletionMessage, Choice

__all__ = ["OutputType", "ParsedChoice", "ParsedCompletion", "ParsedMessage"]

T = TypeVar("T")

_LONGEST = 200  # characters of a refusal in a message


# --- the answer ----------------------------------------------------------------------


class ParsedMessage(ChatCompletionMessage, Generic[T], dict=True):
    """A message with its content as a value. In a request it is what any message is."""

    # The value lies beside the fields, in __dict__, so that it is not sent with them.

    @property
    def parsed(self) -> T | None:
        """The content as a value; None in a message that calls tools instead."""
        value: T | None = vars(self).get("parsed")
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (_fields(self), self.parsed)

    def __copy__(self) -> ParsedMessage[T]:
        return _rebuilt(_fields(self), self.parsed)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, parsed={self.parsed!r})"


def _rebuilt(fields: dict[str, Any], value: Any) -> ParsedMessage[Any]:
    message: ParsedMessage[Any] = ParsedMessage(**fields)
    vars(message)["parsed"] = value
    return message


class ParsedChoice(Choice, Generic[T]):
    """A choice whose message has its content as a value."""

    if TYPE_CHECKING:
        message: ParsedMessage[T] = msgspec.field(default_factory=ParsedMessage[Any])  # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedCompletion(ChatCompletion, Generic[T]):
    """A completion that was asked for with a type: `choices[0].message.parsed` is a value of it."""

    if TYPE_CHECKING:
        choices: list[ParsedChoice[T]] = []  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


# --- the request ---------------------------------------------------------------------


class OutputType(Generic[T]):
    """A type that answers are asked for in."""

    __slots__ = ("_decoded", "_wrapped", "kind", "response_format")

    def __init__(self, kind: Any) -> None:
        if isinstance(kind, (str, bytes)) or is_value(kind):
            raise TypeError(f"response_format is {kind!r}: give a type, or the JSON as a mapping")
        form = strict_schema(kind)
        self.kind: Any = kind
        self.response_format: dict[str, Any] = {
            "type": "json_schema",
            "json_schema": {
                "name": schema_name(kind),
                "strict": form.strict,
                "schema": form.schema,
            },
        }
        """What is sent."""
        self._wrapped = form.wrapped
        self._decoded: Any = kind
        if form.wrapped:
            self._decoded = msgspec.defstruct("Wrapped", [(MEMBER, kind)])

    @staticmethod
    def asked_for(params: dict[str, Any]) -> OutputType[Any] | None:
        """What a `response_format` that is a type asks for; in its place comes what is sent.

        None when it is not there, or is JSON to be sent as it is. TypeError when it is neither
        that nor a type that has a schema.
        """
        wanted = params.get("response_format")
        if isinstance(wanted, Mapping) or is_value(wanted):
            return None
        try:
            output = _known(wanted)
        except TypeError:
            # Not hashable, or no type: then once more, for the error.
            output = OutputType[Any](wanted)
        params["response_format"] = output.response_format
        return output

    def decode(self, text: str) -> T:
        """The value that an answer's text spells; ValueError says why there is none."""
        value: Any = decode_as(self._decoded, text)
        if self._wrapped:
            value = getattr(value, MEMBER)
        decoded: T = value
        return decoded

    def completion(
        self, completion: ChatCompletion, request_id: str | None = None
    ) -> ParsedCompletion[T]:
        """The completion with its values; StructuredOutputError when a choice has none."""
        choices: list[ParsedChoice[T]] = []
        try:
            for choice in completion.choices:
                value = self._value(choice)
                fields = _fields(choice)
                fields["message"] = _rebuilt(_fields(choice.message), value)
                choices.append(ParsedChoice(**fields))
            if not choices:
                raise _Lacking("empty", "the answer has no choices")
        except _Lacking as lacking:
            where = "" if len(completion.choices) < 2 else f" (choice {len(choices)})"
            raise StructuredOutputError(
                f"no {name_of(self.kind)}{where}: {lacking}",
                reason=lacking.reason,
                completion=completion,
                request_id=request_id,
            ) from lacking.__cause__
        fields = _fields(completion)
        fields["choices"] = choices
        return ParsedCompletion(**fields)

    def _value(self, choice: Choice) -> T | None:
        message = choice.message
        text = message.content or ""
        if message.refusal:
            refusal = " ".join(message.refusal.split())
            raise _Lacking("refusal", f"the model refused: {refusal[:_LONGEST]}")
        if choice.finish_reason == "content_filter":
            raise _Lacking("content_filter", "the server's content filter stopped the answer")
        try:
            return self.decode(text)
        except ValueError as error:
            if message.tool_calls:
                return None
            if choice.finish_reason == "length":
                raise _Lacking("length", "the token limit cut the answer") from error
            if not text.strip():
                raise _Lacking("empty", "the answer has no content") from error
            raise _Lacking("invalid", f"the answer is not valid: {error}") from error


class _Lacking(Exception):
    """Why an answer has no value."""

    def __init__(self, reason: StructuredOutputReason, message: str) -> None:
        super().__init__(message)
        self.reason: StructuredOutputReason = reason


@lru_cache(maxsize=256)
def _known(kind: Any) -> OutputType[Any]:
    return OutputType(kind)
