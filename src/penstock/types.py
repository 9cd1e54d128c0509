"""Responses as typed values that keep the untouched payload.

The field names are those of OpenAI's chat completions reference. Servers differ: a member
that may be missing is optional here. Members without a field stay in `to_dict()` and `[...]`.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, cast, overload

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
    "TextChoice",
    "TextCompletion",
    "TextLogprobs",
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
    """Base of responses: typed attributes beside the payload as the server sent it."""

    # Bytes, decoded only on demand. No server uses this name.
    raw: bytes | None = msgspec.field(default=None, name="penstock.raw")
    """JSON text this was decoded from; None for an answer assembled from chunks."""

    def to_dict(self) -> dict[str, Any]:
        """Return the payload as the server sent it, decoded anew on each call.

        An answer assembled from chunks has no single payload; it returns its fields in the
        shape of a `chat.completion` object. Raises ValueError if the payload is nested more
        deeply than the stack allows (about 1000 levels in all); `raw` has the text.
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
    """Decode a JSON object; TypeError if the JSON is not an object. See `decode_json`."""
    payload = decode_json(text)
    if not isinstance(payload, dict):
        raise TypeError(f"the payload is not a JSON object but {type(payload).__name__}")
    return cast("dict[str, Any]", payload)


def decode_json(text: bytes) -> Any:
    """Decode JSON text; ValueError if it is not JSON.

    Also accepted: lone surrogates, invalid UTF-8, a byte order mark, NaN, numbers of any length.
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
    """Breakdown of the prompt's tokens. None where the server does not say."""

    cached_tokens: int | None = None
    """Tokens read from the server's prompt cache."""
    audio_tokens: int | None = None
    """Tokens of audio input."""


class CompletionTokensDetails(msgspec.Struct, omit_defaults=True):
    """Breakdown of the completion's tokens. None where the server does not say."""

    reasoning_tokens: int | None = None
    """Tokens spent on reasoning; they count as completion tokens."""
    audio_tokens: int | None = None
    """Tokens of audio output."""
    accepted_prediction_tokens: int | None = None
    """Tokens of a predicted output that appeared in the completion."""
    rejected_prediction_tokens: int | None = None
    """Tokens of a predicted output that did not appear; they count as completion tokens."""


class Usage(msgspec.Struct):
    """Token counts of one request, as the server counts them. 0 where it does not say."""

    prompt_tokens: int = 0
    """Tokens of the request: messages, tools, images and so on."""
    completion_tokens: int = 0
    """Tokens generated, over all choices, reasoning included."""
    total_tokens: int = 0
    """Sum of both, as the server gave it."""
    prompt_tokens_details: PromptTokensDetails | None = None
    """Breakdown of `prompt_tokens`; None if not given."""
    completion_tokens_details: CompletionTokensDetails | None = None
    """Breakdown of `completion_tokens`; None if not given."""


# --- log probabilities ---------------------------------------------------------------


class TopLogprob(msgspec.Struct):
    """One of the most likely tokens at a position."""

    token: str = ""
    """Text of the token."""
    logprob: float = 0.0
    """Natural logarithm of its probability; -inf for a token that cannot come."""
    bytes: list[int] | None = None
    """UTF-8 bytes of the token, which may be part of a character; None if not given."""


class TokenLogprob(msgspec.Struct):
    """The chosen token of a position, with the most likely alternatives."""

    token: str = ""
    """Text of the token."""
    logprob: float = 0.0
    """Natural logarithm of its probability."""
    bytes: list[int] | None = None
    """UTF-8 bytes of the token, which may be part of a character; None if not given."""
    top_logprobs: list[TopLogprob] = []
    """The most likely tokens at this position, as many as `top_logprobs` asked for."""


class ChoiceLogprobs(msgspec.Struct):
    """Log probabilities of a choice's content and refusal."""

    content: list[TokenLogprob] | None = None
    """One entry for each token of the content; None if there are none."""
    refusal: list[TokenLogprob] | None = None
    """One entry for each token of the refusal; None if there are none."""


# --- tool calls ----------------------------------------------------------------------


class Function(msgspec.Struct):
    """Function of a tool call."""

    name: str = ""
    """Name of the function, from the request's `tools`."""
    arguments: str = ""
    """Arguments as the JSON text the model wrote, which may be invalid."""


class CallsTool(Protocol[R_co]):
    """A `penstock.Tool`, as `ToolCall.call` needs it."""

    def call(self, call: ToolCall, /) -> R_co:
        """Call the tool's function with the arguments of this call."""
        ...


class ToolCall(msgspec.Struct):
    """A whole tool call."""

    id: str | None = None
    """Identifies the call in the tool's reply; None if the server gave no id."""
    type: str = "function"
    """Kind of the call: function or a server's own."""
    function: Function = msgspec.field(default_factory=Function)
    """Function to call, with its arguments."""

    @overload
    def parse(self, kind: builtins.type[T], /) -> T: ...

    @overload
    def parse(self, kind: Any, /) -> Any: ...

    def parse(self, kind: Any, /) -> Any:
        """Return the arguments as a value of this type (any that msgspec decodes, or Pydantic).

        Raises ToolArgumentsError if they are not JSON or not valid for the type; its
        `tool_message` can be sent back to the model.
        """
        # Some models write {} for no arguments, others nothing.
        text = self.function.arguments
        try:
            return decode_as(kind, text if text.strip() else "{}")
        except ValueError as cause:
            name = self.function.name or name_of(kind)
            raise ToolArgumentsError(
                f"the arguments for {name} are not valid: {cause}", call=self
            ) from cause

    def call(self, tool: CallsTool[R], /) -> R:
        """Call the tool's function with these arguments and return its result.

        An async function returns an awaitable: `await call.call(tool)`. Raises
        ToolArgumentsError as `parse` does, and ValueError if the call names another tool.
        """
        return tool.call(self)


class FunctionDelta(msgspec.Struct, gc=False):
    """A piece of a function's name or arguments."""

    name: str | None = None
    """The name, or a piece of it."""
    arguments: str | None = None
    """The next piece of the arguments' JSON text."""


class ToolCallDelta(msgspec.Struct, gc=False):
    """A piece of a tool call."""

    index: int | None = None
    """Position of the call among the choice's calls; None if the server does not say."""
    id: str | None = None
    """Id of the call; most servers send it with the first piece only."""
    type: str | None = None
    """Kind of the call; most servers send it with the first piece only."""
    function: FunctionDelta | None = None
    """What this piece adds to the function."""


# --- messages and deltas -------------------------------------------------------------


class Reasoning(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Reasoning text, which servers call `reasoning_content` or `reasoning`, or send as both."""

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


class ChoiceDelta(Reasoning, kw_only=True, gc=False, omit_defaults=True):
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


class ChatCompletionMessage(Reasoning, kw_only=True, omit_defaults=True):
    """A whole message of the assistant; it may go back into `messages` as it is."""

    # A factory, because omit_defaults would leave out a plain default, and no server
    # accepts a message without its role.
    role: str = msgspec.field(default_factory=lambda: "assistant")
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


# --- chunks --------------------------------------------------------------------------


class ChunkChoice(msgspec.Struct, gc=False):
    """One choice's part of a chunk."""

    # A negative index goes to the tolerant decoder, which makes it 0.
    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Which choice this adds to; 0 unless n > 1."""
    delta: ChoiceDelta = msgspec.field(default_factory=ChoiceDelta)
    """What it adds to the message."""
    finish_reason: str | None = None
    """stop, length, tool_calls, content_filter or a server's own; None until the choice ends."""
    logprobs: ChoiceLogprobs | None = None
    """Log probabilities of the tokens in `delta`; None if not asked for."""
    usage: Usage | None = None
    """Token counts, where a server puts them here (Moonshot does) and not on the chunk."""
    error: Any = None
    """Why this choice failed, where a server says so here (OpenRouter does)."""


class GroqExtras(msgspec.Struct, gc=False):
    """Groq's own member, which carries usage that other servers put on the chunk."""

    id: str | None = None
    """Groq's id of the request."""
    usage: Usage | None = None
    """Token counts; usually only in the last chunk."""
    error: Any = None
    """The failure that ended the stream, as parsed JSON; None if there is none."""


class ChatCompletionChunk(Payload, kw_only=True, gc=False):
    """One event of a streamed completion."""

    id: str | None = None
    """Id of the completion, the same in each of its chunks."""
    object: str | None = None
    """Usually chat.completion.chunk."""
    created: int | float | None = None
    """Time of creation in seconds since the epoch, by the server's clock."""
    model: str | None = None
    """Model that answers, as the server names it."""
    choices: list[ChunkChoice] = []
    """What is new, by choice; empty in a chunk that only carries usage."""
    usage: Usage | None = None
    """Token counts; usually only in the last chunk, and only if `stream_options` asks for them."""
    system_fingerprint: str | None = None
    """The server's configuration, which may explain different answers to one seed."""
    service_tier: str | None = None
    """Tier that served the request."""
    x_groq: GroqExtras | None = None
    """Groq's own member."""
    error: Any = None
    """The failure that ended the stream, as parsed JSON; None if there is none."""


# --- whole completions ---------------------------------------------------------------


class Choice(msgspec.Struct):
    """One of a completion's answers (several if n > 1)."""

    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Number of the answer, from 0."""
    message: ChatCompletionMessage = msgspec.field(default_factory=ChatCompletionMessage)
    """The message."""
    finish_reason: str | None = None
    """stop, length (token limit), tool_calls, content_filter or a server's own; None if cut off."""
    logprobs: ChoiceLogprobs | None = None
    """Log probabilities of the message's tokens; None if not asked for."""


class ChatCompletion(Payload, kw_only=True):
    """A whole completion, received as one or assembled from a stream."""

    id: str | None = None
    """Id of the completion."""
    object: str | None = "chat.completion"
    """Usually chat.completion."""
    created: int | float | None = None
    """Time of creation in seconds since the epoch, by the server's clock."""
    model: str | None = None
    """Model that answered, as the server names it."""
    choices: list[Choice] = []
    """The answers, by index."""
    usage: Usage | None = None
    """Token counts; None if the server did not give them."""
    system_fingerprint: str | None = None
    """The server's configuration, which may explain different answers to one seed."""
    service_tier: str | None = None
    """Tier that served the request."""


# --- text completions ------------------------------------------------------------------


class TextLogprobs(msgspec.Struct, omit_defaults=True):
    """Log probabilities of a text completion, as parallel lists with an entry for each token."""

    tokens: list[str] = []
    """The tokens as text."""
    token_logprobs: list[float | None] = []
    """Natural logarithm of each token's probability; None for the first one of a prompt."""
    top_logprobs: list[dict[str, float] | None] = []
    """The likeliest tokens at each position, with their log probabilities."""
    text_offset: list[int] = []
    """Where each token begins in the text, in characters."""


class TextChoice(msgspec.Struct):
    """One of a text completion's answers, or a piece of one."""

    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Position among the answers, from 0."""
    text: str = ""
    """The text, or the next piece of it."""
    finish_reason: str | None = None
    """stop, length (the token limit was hit) or a server's own; None while it goes on."""
    logprobs: TextLogprobs | None = None
    """Log probabilities, where they were asked for."""
    error: Any = None
    """Why this choice failed, where a server says so here."""


class TextCompletion(Payload, kw_only=True):
    """A text completion of the legacy endpoint, or a streamed piece of one: the shape is one."""

    x_groq: ClassVar[None] = None

    id: str | None = None
    """The server's id of the completion, the same in all pieces."""
    object: str | None = "text_completion"
    """The kind of object, as the server names it."""
    created: int | float | None = None
    """Seconds since the epoch."""
    model: str | None = None
    """The model that answered."""
    choices: list[TextChoice] = []
    """The answers, several when n > 1 or for several prompts."""
    usage: Usage | None = None
    """Token counts, where the server reports them."""
    system_fingerprint: str | None = None
    """The server's configuration, where it names it."""
    error: Any = None
    """What a server reports in place of an answer."""

    @property
    def text(self) -> str:
        """The text of choice 0; "" when nothing came."""
        return next((choice.text for choice in self.choices if choice.index == 0), "")


# --- models --------------------------------------------------------------------------


class Model(Payload, kw_only=True):
    """A model the server offers; its `id` goes into `model=`."""

    id: str = ""
    """Name of the model."""
    owned_by: str | None = None
    """Organization that owns the model, as the server names it."""
    created: int | float | None = None
    """Time of creation in seconds since the epoch."""
    object: str | None = None
    """Usually model."""


class ModelList(Payload, kw_only=True):
    """The models a server offers: iterable, with a length, indexed by position or by key."""

    data: list[Model] = []
    """The models, in the server's order."""
    object: str | None = None
    """Usually list."""

    def __iter__(self) -> Iterator[Model]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, key: Any) -> bool:
        return key in self.data if isinstance(key, Model) else super().__contains__(key)

    def __getitem__(self, key: str | int) -> Any:
        return self.data[key] if isinstance(key, int) else self.to_dict()[key]

    def to_dict(self) -> dict[str, Any]:
        """Return the payload as the server sent it, or the fields of a list made by hand."""
        if self.raw is None:
            return {"object": self.object, "data": [model.to_dict() for model in self.data]}
        return super().to_dict()
