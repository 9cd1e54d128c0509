"""Structured output: an answer as a value of a requested type.

The type is one that msgspec decodes (a Struct, a dataclass, a TypedDict, an attrs class,
`list[int]`, a union, ...) or a Pydantic model. `OutputType` belongs to the request,
`ParsedCompletion` to the answer.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from ._typed.decoding import decode_as, is_value, name_of
from ._typed.forgiving import decode_forgivingly
from ._typed.members import is_object
from ._typed.schema import MEMBER, schema_name, strict_schema
from .errors import StructuredOutputError, StructuredOutputReason
from .types import ChatCompletion, ChatCompletionMessage, Choice

__all__ = ["OutputType", "ParsedChoice", "ParsedCompletion", "ParsedMessage"]

T = TypeVar("T")

_LONGEST = 200  # characters of a refusal in a message


# --- the answer ----------------------------------------------------------------------


class ParsedMessage(ChatCompletionMessage, Generic[T], dict=True):
    """A message whose content is also a value. In a request it is sent like any message."""

    # The value is in __dict__ and not a field, so that it is not sent.

    @property
    def parsed(self) -> T | None:
        """The content as a value of the requested type; None if the message calls tools instead."""
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
    """A choice whose `message.parsed` is a value of the requested type."""

    if TYPE_CHECKING:
        message: ParsedMessage[T] = msgspec.field(default_factory=ParsedMessage[Any])  # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedCompletion(ChatCompletion, Generic[T]):
    """A completion for a requested type: `choices[0].message.parsed` is a value of that type."""

    if TYPE_CHECKING:
        choices: list[ParsedChoice[T]] = []  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


# --- the request ---------------------------------------------------------------------


class OutputType(Generic[T]):
    """A requested type: its JSON schema for the request, its decoder for the answer.

    TypeError if it is not a type, or has no JSON schema.
    """

    __slots__ = ("_decoded", "_lenient", "_wrapped", "kind", "response_format")

    def __init__(self, kind: Any) -> None:
        if isinstance(kind, (str, bytes)) or is_value(kind):
            raise TypeError(f"response_format is {kind!r}: give a type or a mapping")
        form = strict_schema(kind)
        self.kind: Any = kind
        """The requested type."""
        self.response_format: dict[str, Any] = {
            "type": "json_schema",
            "json_schema": {
                "name": schema_name(kind),
                "strict": form.strict,
                "schema": form.schema,
            },
        }
        """The request's `response_format`: the type's name and JSON schema."""
        self._wrapped = form.wrapped
        self._lenient = False
        self._decoded: Any = kind
        if form.wrapped:
            self._decoded = msgspec.defstruct("Wrapped", [(MEMBER, kind)])

    @staticmethod
    def asked_for(params: dict[str, Any]) -> OutputType[Any] | None:
        """Return the requested type, and replace it in `params` by its JSON schema.

        None if there is no `response_format`, or if it is JSON already. `lenient` is taken out of
        `params`. TypeError if it is neither JSON nor a type with a schema.
        """
        wanted = params.get("response_format")
        if isinstance(wanted, Mapping) or is_value(wanted):
            return None
        try:
            output = _known(wanted)
        except TypeError:
            # Not hashable, or not a type: the second call raises the error.
            output = OutputType[Any](wanted)
        params["response_format"] = output.response_format
        if params.pop("lenient", False):
            output = copy.copy(output)
            output._lenient = True
        return output

    def decode(self, text: str) -> T:
        """Return the value of an answer's text. ValueError says why the text is not valid."""
        decode = decode_forgivingly if self._lenient else decode_as
        value: Any = decode(self._decoded, text)
        if self._wrapped:
            value = getattr(value, MEMBER)
        decoded: T = value
        return decoded

    def unwrapped(self, value: Any) -> Any:
        """Return the part of a JSON value that is the requested one; None if it is not there."""
        return value.get(MEMBER) if self._wrapped and is_object(value) else value

    def completion(self, completion: ChatCompletion) -> ParsedCompletion[T]:
        """Return the completion with its values. StructuredOutputError if a choice has none."""
        choices: list[ParsedChoice[T]] = []
        try:
            for choice in completion.choices:
                value = self._value(choice)
                fields = _fields(choice)
                fields["message"] = _rebuilt(_fields(choice.message), value)
                choices.append(ParsedChoice(**fields))
            if not choices:
                raise _NoValue("empty", "the answer has no choices")
        except _NoValue as missing:
            where = "" if len(completion.choices) < 2 else f" (choice {len(choices)})"
            raise StructuredOutputError(
                f"no {name_of(self.kind)}{where}: {missing}",
                reason=missing.reason,
                completion=completion,
                request_id=completion.request_id,
            ) from missing.__cause__
        fields = _fields(completion)
        fields["choices"] = choices
        parsed: ParsedCompletion[T] = ParsedCompletion(**fields)
        vars(parsed).update(vars(completion))
        return parsed

    def _value(self, choice: Choice) -> T | None:
        message = choice.message
        text = message.content or ""
        if message.refusal:
            refusal = " ".join(message.refusal.split())
            raise _NoValue("refusal", f"the model refused: {refusal[:_LONGEST]}")
        if choice.finish_reason == "content_filter":
            raise _NoValue("content_filter", "the server's content filter stopped the answer")
        try:
            return self.decode(text)
        except ValueError as error:
            if message.tool_calls:
                return None
            if choice.finish_reason == "length":
                raise _NoValue("length", "the token limit cut the answer") from error
            if not text.strip():
                raise _NoValue("empty", "the answer has no content") from error
            raise _NoValue("invalid", f"the answer is not valid: {error}") from error


class _NoValue(Exception):
    """The reason why an answer has no value."""

    def __init__(self, reason: StructuredOutputReason, message: str) -> None:
        super().__init__(message)
        self.reason: StructuredOutputReason = reason


@lru_cache(maxsize=256)
def _known(kind: Any) -> OutputType[Any]:
    return OutputType(kind)
