"""What the server answers, as typed values that keep the untouched payload.

The field names are those of OpenAI's chat completions reference. Servers differ:
whatever may be missing is optional, and what a server sends beyond these fields stays
in `to_dict()` and `[...]` of the response.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Annotated, Any, Protocol, TypeVar, cast, overload

import msgspec

from ._typed.decoding import decode_as, name_of
from .errors import ToolArgumentsError

__all__ = [
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionMessage",
    "Choice",
    "ChoiceDelta",
    "ChoiceLogprobs",
    "ChunkChoice",
    "CompletionTokensDetails",
    "Function",
    "FunctionDelta",
    "Model",
    "ModelList",
    "PromptTokensDetails",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "TopLogprob",
    "Usage",
]

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Payload(msgspec.Struct, kw_only=True):
    """Base of whole responses: typed attributes beside the payload as the server sent it."""

    # Bytes, decoded only when asked for; the name is one no server uses.
    raw: bytes | None = msgspec.field(default=None, name="penstock.raw")
    """The JSON text this was decoded from; None for an answer put together from chunks."""

    def to_dict(self) -> dict[str, Any]:
        """The payload as the server sent it, unknown members included, decoded anew each time.

        ValueError where it is nested more deeply than the present stack has room for; Python
        allows about 1000 levels in all. `raw` has the text.

        A completion that was put together from a stream has no single payload; it gives
        its fields in the shape of a `chat.completion` object.
        """
        if self.raw is None:
            payload: dict[str, Any] = msgspec.to_builtins(self)
            payload.pop("penstock.raw", None)
            return payload
        return decode_object(self.raw)

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def __contains__(self, key: Any) -> bool:
        return isinstance(key, str) and key in self.to_dict()

    def __repr__(self) -> str:
        shown = (
            f"{name}={value!r}"
            for name in self.__struct_fields__
            if name != "raw" and (value := getattr(self, name)) is not None
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def decode_object(text: bytes) -> dict[str, Any]:
    """A JSON object as a dict, read by `decode_json`."""
    payload = decode_json(text)
    if not isinstance(payload, dict):
        raise TypeError(f"the payload is not a JSON object but {type(payload).__name__}")
    return cast("dict[str, Any]", payload)


def decode_json(text: bytes) -> Any:
    """A JSON value. What msgspec refuses is read tolerantly: lone surrogates, bytes that are no
    UTF-8, a byte order mark, NaN, numbers of any length. What is no JSON raises ValueError.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        import json

        try:
            return json.loads(
                text.decode("utf-8", "replace").removeprefix("\ufeff"), parse_int=_integer
            )
        except RecursionError as error:
            raise ValueError("the JSON is nested too deeply") from error


def _integer(digits: str) -> int | float:
    # int() refuses more digits than sys.get_int_max_str_digits().
    return int(digits) if len(digits) <= 640 else float(digits)


# --- usage ---------------------------------------------------------------------------


class PromptTokensDetails(msgspec.Struct, omit_defaults=True):
    """Where the prompt's tokens came from."""

    cached_tokens: int | None = None
    audio_tokens: int | None = None


class CompletionTokensDetails(msgspec.Struct, omit_defaults=True):
    """What the completion's tokens were spent on."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class Usage(msgspec.Struct):
    """Token counts of a request, as billed by the server."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


# --- log probabilities ---------------------------------------------------------------


class TopLogprob(msgspec.Struct):
    """One of the likeliest tokens at a position."""

    token: str = ""
    logprob: float = 0.0
    bytes: list[int] | None = None


class TokenLogprob(msgspec.Struct):
    """The chosen token of a position, with its likeliest rivals."""

    token: str = ""
    logprob: float = 0.0
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] = []


class ChoiceLogprobs(msgspec.Struct):
    """Log probabilities of a choice's content and refusal."""

    content: list[TokenLogprob] | None = None
    refusal: list[TokenLogprob] | None = None


# --- tool calls ----------------------------------------------------------------------


class Function(msgspec.Struct):
    """The function a tool call names, with its arguments as the JSON text the model wrote."""

    name: str = ""
    arguments: str = ""


class CallsTool(Protocol[R_co]):
    """A `penstock.Tool`."""

    def call(self, call: ToolCall, /) -> R_co:
        """Call the function with the arguments of a model's call."""
        ...


class ToolCall(msgspec.Struct):
    """A whole tool call."""

    id: str | None = None
    type: str = "function"
    function: Function = msgspec.field(default_factory=Function)

    @overload
    def parse(self, kind: builtins.type[T], /) -> T: ...

    @overload
    def parse(self, kind: Any, /) -> Any: ...

    def parse(self, kind: Any, /) -> Any:
        """The arguments as a value of this type: any that msgspec decodes, or a Pydantic model.

        Raises ToolArgumentsError when they are no JSON or not valid for it; its
        `tool_message` can be sent back to the model.
        """
        # No arguments are written as {}, or not at all.
        text = self.function.arguments
        try:
            return decode_as(kind, text if text.strip() else "{}")
        except ValueError as cause:
            name = self.function.name or name_of(kind)
            raise ToolArgumentsError(
                f"the arguments for {name} are not valid: {cause}", call=self
            ) from cause

    def call(self, tool: CallsTool[R], /) -> R:
        """Call the tool's function with these arguments; what it returns, as it returns it.

        So the call of an async function is awaited: `await call.call(tool)`. Raises
        ToolArgumentsError as `parse` does, and ValueError when the call is of another tool.
        """
        return tool.call(self)


class FunctionDelta(msgspec.Struct, gc=False):
    """A piece of a function's name or arguments."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, gc=False):
    """A piece of a tool call; `index` says of which, where the server gives it."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None


# --- messages and deltas -------------------------------------------------------------


class Reasoning(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Reasoning text, which servers call `reasoning_content` or `reasoning`, some both."""

    reasoning_field: str | None = msgspec.field(default=None, name="reasoning")
    reasoning_content_field: str | None = msgspec.field(default=None, name="reasoning_content")

    @property
    def reasoning(self) -> str | None:
        """The reasoning text, under whichever name it came."""
        return self.reasoning_content_field or self.reasoning_field

    @property
    def reasoning_content(self) -> str | None:
        """The same text as `reasoning`."""
        return self.reasoning_content_field or self.reasoning_field


class ChoiceDelta(Reasoning, kw_only=True, gc=False, omit_defaults=True):
    """What one chunk adds to a choice's message; every part may be absent."""

    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    annotations: list[Any] | None = None


class ChatCompletionMessage(Reasoning, kw_only=True, omit_defaults=True):
    """A whole message of the assistant; it may go back into `messages` as it is."""

    # A factory, because omit_defaults would leave out a plain default, and no server
    # takes a message without its role.
    role: str = msgspec.field(default_factory=lambda: "assistant")
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    annotations: list[Any] | None = None

    @property
    def parsed(self) -> Any:
        """The content as a value, when a type was given as `response_format`; else None."""
        return None


# --- chunks --------------------------------------------------------------------------


class ChunkChoice(msgspec.Struct, gc=False):
    """One choice's part of a chunk."""

    # A negative index is left to the tolerant decoder, which makes it 0.
    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    delta: ChoiceDelta = msgspec.field(default_factory=ChoiceDelta)
    finish_reason: str | None = None
    """stop, length, tool_calls, content_filter or a server's own; None while it goes on."""
    logprobs: ChoiceLogprobs | None = None
    usage: Usage | None = None
    """Where a server reports usage here (Moonshot does) instead of on the chunk."""


class GroqExtras(msgspec.Struct, gc=False):
    """Groq's own member, which carries usage where streams of others have it on the chunk."""

    id: str | None = None
    usage: Usage | None = None
    error: Any = None


class ChatCompletionChunk(Payload, kw_only=True, gc=False):
    """One event of a streamed completion."""

    id: str | None = None
    object: str | None = None
    created: int | float | None = None
    """Seconds since the epoch."""
    model: str | None = None
    choices: list[ChunkChoice] = []
    usage: Usage | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    x_groq: GroqExtras | None = None
    error: Any = None


# --- whole completions ---------------------------------------------------------------


class Choice(msgspec.Struct):
    """One of a completion's answers (several when n > 1)."""

    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    message: ChatCompletionMessage = msgspec.field(default_factory=ChatCompletionMessage)
    finish_reason: str | None = None
    """stop, length (the token limit was hit), tool_calls, content_filter or a server's own."""
    logprobs: ChoiceLogprobs | None = None


class ChatCompletion(Payload, kw_only=True):
    """A whole completion, received as one or put together from a stream."""

    id: str | None = None
    object: str | None = "chat.completion"
    created: int | float | None = None
    """Seconds since the epoch."""
    model: str | None = None
    choices: list[Choice] = []
    usage: Usage | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None


# --- models --------------------------------------------------------------------------


class Model(Payload, kw_only=True):
    """A model the server offers; its `id` goes into `model=`."""

    id: str = ""
    owned_by: str | None = None
    created: int | float | None = None
    """Seconds since the epoch."""
    object: str | None = None


class ModelList(Payload, kw_only=True):
    """The models a server offers: iterable, with a length, indexed by position or by key."""

    data: list[Model] = []
    object: str | None = None

    def __iter__(self) -> Iterator[Model]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, key: Any) -> bool:
        return key in self.data if isinstance(key, Model) else super().__contains__(key)

    def __getitem__(self, key: str | int) -> Any:
        return self.data[key] if isinstance(key, int) else self.to_dict()[key]

    def to_dict(self) -> dict[str, Any]:
        """The payload as the server sent it; of a list made by hand, its fields."""
        if self.raw is None:
            return {"object": self.object, "data": [model.to_dict() for model in self.data]}
        return super().to_dict()
