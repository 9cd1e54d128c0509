"""Responses as typed values that keep the untouched payload.

The field names are those of OpenAI's chat completions reference. Servers differ: a member
that may be missing is optional here. Members without a field survive in `to_dict()`, `[...]`
and `in` of every part, in whole answers as in those assembled from chunks, and go back to the
server with a message that is put into `messages`.

Some members have no field but a property, because most answers do not have them: `audio`,
`images`, `function_call`, `custom`, `token_ids`, `prompt_token_ids`, `stop_reason`.
"""

from __future__ import annotations

import builtins
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Protocol, Self, TypeVar, cast, overload

import msgspec
from msgspec import UNSET, UnsetType

from ._typed.decoding import decode_as, name_of
from ._typed.members import EXTRA, RAW, flattened, is_list, is_object, set_aside, shape_of
from .errors import ToolArgumentsError
from .headers import Headers

__all__ = [
    "Audio",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionMessage",
    "Choice",
    "ChoiceDelta",
    "ChoiceLogprobs",
    "ChunkChoice",
    "CompletionTokensDetails",
    "CustomCall",
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


class Part(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, repr_omit_defaults=True):
    """Base of every part of a response: typed attributes, and the members without one.

    Unknown members are refused, so that the decoder notices them at no cost where there are
    none; it then moves them to `extra`.
    """

    extra: dict[str, Any] | UnsetType = msgspec.field(default=UNSET, name=EXTRA)
    """Members of this object without a field of their own, as parsed JSON; UNSET if none."""

    def to_dict(self) -> dict[str, Any]:
        """Return this part as a server sends it: its fields and its other members.

        Each call returns a new dict of plain JSON values.
        """
        plain: dict[str, Any] = flattened(msgspec.to_builtins(self))
        return plain

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def __contains__(self, key: Any) -> bool:
        return isinstance(key, str) and key in self.to_dict()


class Payload(Part, kw_only=True):
    """Base of responses: typed attributes beside the payload as the server sent it."""

    # Bytes, decoded only on demand.
    raw: bytes | None = msgspec.field(default=None, name=RAW)
    """JSON text this was decoded from; None for an answer assembled from chunks."""

    def to_dict(self) -> dict[str, Any]:
        """Return the payload as the server sent it, decoded anew on each call.

        An answer assembled from chunks has no single payload; it returns its fields and its
        other members in the shape of a `chat.completion` object. Raises ValueError if the
        payload is nested more deeply than the stack allows (about 1000 levels in all); `raw`
        has the text.
        """
        return super().to_dict() if self.raw is None else decode_object(self.raw)

    def __repr__(self) -> str:
        shown = (
            f"{name}={value!r}"
            for name in self.__struct_fields__
            if name != "raw" and (value := getattr(self, name)) is not None and value is not UNSET
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class Answer(Payload, kw_only=True, dict=True):
    """Base of whole answers, which know the response they came in."""

    # In __dict__ and not fields, so that they are no part of the answer: neither in `to_dict()`
    # and `repr` nor compared.

    @property
    def headers(self) -> Headers:
        """Headers of the response; empty for an answer made by hand or taken from `partial`."""
        headers: Headers = vars(self).get("headers") or Headers()
        return headers

    @property
    def request_id(self) -> str | None:
        """The server's id of the request; None if it gave none, or there are no headers."""
        given: str | None = vars(self).get("request_id")
        return given

    def __copy__(self) -> Self:
        copied = msgspec.structs.replace(self)
        vars(copied).update(vars(self))
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        made: tuple[Any, ...] = super().__reduce__()  # type: ignore[assignment]
        return (*made, vars(self).copy() or None)


P = TypeVar("P", bound=Part)


def _part(kind: type[P], extra: dict[str, Any] | UnsetType, name: str) -> P | None:
    """Return a member of `extra` as a part; None if there is none that fits."""
    value: Any = extra.get(name) if extra else None
    if not is_object(value):
        return None
    payload = value.copy()
    set_aside(payload, shape_of(kind))
    try:
        return msgspec.convert(payload, kind)
    except msgspec.ValidationError:
        return None


def _list(extra: dict[str, Any] | UnsetType, name: str) -> list[Any] | None:
    value: Any = extra.get(name) if extra else None
    return value if is_list(value) else None


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
                text.decode("utf-8", "replace").removeprefix("\ufeff"),
                # A call for each integer, unless there is none so long.
                parse_int=_integer if _LONG_NUMBER.search(text) else None,
            )
        except RecursionError as error:
            raise ValueError("the JSON is nested too deeply") from error


_LONG_NUMBER = re.compile(rb"[0-9]{641}")


def _integer(digits: str) -> int | float:
    # int() refuses more digits than sys.get_int_max_str_digits().
    return int(digits) if len(digits) <= 640 else float(digits)


# --- usage ---------------------------------------------------------------------------


class PromptTokensDetails(Part, omit_defaults=True):
    """Breakdown of the prompt's tokens. None where the server does not say."""

    cached_tokens: int | None = None
    """Tokens read from the server's prompt cache."""
    cache_write_tokens: int | None = None
    """Tokens written to the server's prompt cache, which some servers charge for."""
    audio_tokens: int | None = None
    """Tokens of audio input."""


class CompletionTokensDetails(Part, omit_defaults=True):
    """Breakdown of the completion's tokens. None where the server does not say."""

    reasoning_tokens: int | None = None
    """Tokens spent on reasoning; they count as completion tokens."""
    audio_tokens: int | None = None
    """Tokens of audio output."""
    accepted_prediction_tokens: int | None = None
    """Tokens of a predicted output that appeared in the completion."""
    rejected_prediction_tokens: int | None = None
    """Tokens of a predicted output that did not appear; they count as completion tokens."""


class Usage(Part, omit_defaults=True):
    """Token counts of one request, as the server counts them. 0 where it does not say.

    What else it says of the cost stays: `usage["cost"]`, `usage["prompt_cache_hit_tokens"]`.
    """

    # Factories, so that a count of 0 is written although other defaults are left out.
    prompt_tokens: int = msgspec.field(default_factory=int)
    """Tokens of the request: messages, tools, images and so on."""
    completion_tokens: int = msgspec.field(default_factory=int)
    """Tokens generated, over all choices, reasoning included."""
    total_tokens: int = msgspec.field(default_factory=int)
    """Sum of both, as the server gave it."""
    prompt_tokens_details: PromptTokensDetails | None = None
    """Breakdown of `prompt_tokens`; None if not given."""
    completion_tokens_details: CompletionTokensDetails | None = None
    """Breakdown of `completion_tokens`; None if not given."""


# --- log probabilities ---------------------------------------------------------------


class TopLogprob(Part):
    """One of the most likely tokens at a position."""

    token: str = ""
    """Text of the token."""
    logprob: float = 0.0
    """Natural logarithm of its probability; -inf for a token that cannot come."""
    bytes: list[int] | None = None
    """UTF-8 bytes of the token, which may be part of a character; None if not given."""


class TokenLogprob(Part):
    """The chosen token of a position, with the most likely alternatives."""

    token: str = ""
    """Text of the token."""
    logprob: float = 0.0
    """Natural logarithm of its probability."""
    bytes: list[int] | None = None
    """UTF-8 bytes of the token, which may be part of a character; None if not given."""
    top_logprobs: list[TopLogprob] = []
    """The most likely tokens at this position, as many as `top_logprobs` asked for."""


class ChoiceLogprobs(Part):
    """Log probabilities of a choice's content and refusal."""

    content: list[TokenLogprob] | None = None
    """One entry for each token of the content; None if there are none."""
    refusal: list[TokenLogprob] | None = None
    """One entry for each token of the refusal; None if there are none."""


# --- tool calls ----------------------------------------------------------------------


class Function(Part):
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


class CustomCall(Part):
    """A call of a custom tool, which takes free text."""

    name: str = ""
    """Name of the tool, from the request's `tools`."""
    input: str = ""
    """What the model wrote for it."""


class ToolCall(Part):
    """A whole tool call."""

    id: str | None = None
    """Identifies the call in the tool's reply. A call that came without one was given one."""
    type: str = "function"
    """Kind of the call: function, custom or a server's own."""
    function: Function = msgspec.field(default_factory=Function)
    """Function to call, with its arguments; empty in a call of another kind."""

    @property
    def custom(self) -> CustomCall | None:
        """Custom tool to call, with its input; None in a call of another kind."""
        return _part(CustomCall, self.extra, "custom")

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


class FunctionDelta(Part, gc=False):
    """A piece of a function's name or arguments."""

    name: str | None = None
    """The name, or a piece of it."""
    arguments: str | None = None
    """The next piece of the arguments' JSON text."""


class ToolCallDelta(Part, gc=False):
    """A piece of a tool call."""

    index: int | None = None
    """Position of the call among the choice's calls; None if the server does not say."""
    id: str | None = None
    """Id of the call; most servers send it with the first piece only."""
    type: str | None = None
    """Kind of the call; most servers send it with the first piece only."""
    function: FunctionDelta | None = None
    """What this piece adds to the function."""

    @property
    def custom(self) -> CustomCall | None:
        """What this piece adds to the call of a custom tool; None if nothing."""
        return _part(CustomCall, self.extra, "custom")


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


# --- messages and deltas -------------------------------------------------------------


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
        return _part(Audio, self.extra, "audio")

    @property
    def images(self) -> list[Any] | None:
        """Generated images as parsed JSON (OpenRouter's members); None if there are none."""
        return _list(self.extra, "images")

    @property
    def function_call(self) -> Function | None:
        """Call in the form before `tool_calls`, or the next piece of it; None if there is none."""
        return _part(Function, self.extra, "function_call")


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


# --- chunks --------------------------------------------------------------------------


class ChunkChoice(Part, gc=False):
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
    token_ids: list[int] | None = None
    """Ids of the tokens in `delta` (vLLM's `return_token_ids`); None if not asked for."""

    @property
    def stop_reason(self) -> Any:
        """Stop string or token id that ended the choice (vLLM); None if the server says none."""
        return self.extra.get("stop_reason") if self.extra else None


class GroqExtras(Part, gc=False, omit_defaults=True):
    """Groq's own member, which carries usage that other servers put on the chunk."""

    id: str | None = None
    """Groq's id of the request."""
    usage: Usage | None = None
    """Token counts; usually only in the last chunk."""
    error: Any = None
    """The failure that ended the stream, as parsed JSON; None if there is none."""


class ChatCompletionChunk(Payload, kw_only=True, gc=False):
    """One event of a streamed completion."""

    # In the order in which servers send them: the decoder looks for each member behind the
    # last one first.
    id: str | None = None
    """Id of the completion, the same in each of its chunks."""
    object: str | None = None
    """Usually chat.completion.chunk."""
    created: int | float | None = None
    """Time of creation in seconds since the epoch, by the server's clock."""
    model: str | None = None
    """Model that answers, as the server names it."""
    service_tier: str | None = None
    """Tier that served the request."""
    system_fingerprint: str | None = None
    """The server's configuration, which may explain different answers to one seed."""
    choices: list[ChunkChoice] = []
    """What is new, by choice; empty in a chunk that only carries usage."""
    usage: Usage | None = None
    """Token counts; usually only in the last chunk, and only if `stream_options` asks for them."""
    obfuscation: Any = None
    """Random padding that hides the length of the text from eavesdroppers; not part of it."""
    x_groq: GroqExtras | None = None
    """Groq's own member."""
    error: Any = None
    """The failure that ended the stream, as parsed JSON; None if there is none."""

    @property
    def prompt_token_ids(self) -> list[int] | None:
        """Ids of the prompt's tokens (vLLM's `return_token_ids`); None if they are not here."""
        return _list(self.extra, "prompt_token_ids")


# --- whole completions ---------------------------------------------------------------


class Choice(Part):
    """One of a completion's answers (several if n > 1)."""

    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Number of the answer, from 0."""
    message: ChatCompletionMessage = msgspec.field(default_factory=ChatCompletionMessage)
    """The message."""
    finish_reason: str | None = None
    """stop, length (token limit), tool_calls, content_filter or a server's own; None if cut off."""
    logprobs: ChoiceLogprobs | None = None
    """Log probabilities of the message's tokens; None if not asked for."""

    @property
    def token_ids(self) -> list[int] | None:
        """Ids of the message's tokens (vLLM's `return_token_ids`); None if not asked for."""
        return _list(self.extra, "token_ids")

    @property
    def stop_reason(self) -> Any:
        """Stop string or token id that ended the choice (vLLM); None if the server says none."""
        return self.extra.get("stop_reason") if self.extra else None


class ChatCompletion(Answer, kw_only=True):
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

    @property
    def text(self) -> str:
        """The text of choice 0; "" if there is none."""
        first = next((choice for choice in self.choices if choice.index == 0), None)
        return "" if first is None else first.message.content or ""

    @property
    def prompt_token_ids(self) -> list[int] | None:
        """Ids of the prompt's tokens (vLLM's `return_token_ids`); None if not asked for."""
        return _list(self.extra, "prompt_token_ids")


# --- text completions ------------------------------------------------------------------


class TextLogprobs(Part, omit_defaults=True):
    """Log probabilities of a text completion, as parallel lists with an entry for each token."""

    tokens: list[str] = []
    """The tokens as text."""
    token_logprobs: list[float | None] = []
    """Natural logarithm of each token's probability; None for the first one of a prompt."""
    top_logprobs: list[dict[str, float] | None] = []
    """The likeliest tokens at each position, with their log probabilities."""
    text_offset: list[int] = []
    """Where each token begins in the text, in characters."""


class TextChoice(Part):
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


class TextCompletion(Answer, kw_only=True):
    """A text completion of the legacy endpoint, or a streamed piece of one: the shape is one."""

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
    def x_groq(self) -> None:
        """None: Groq's own member is one of chats."""

    @property
    def text(self) -> str:
        """The text of choice 0; "" when nothing came."""
        return next((choice.text for choice in self.choices if choice.index == 0), "")


# --- models --------------------------------------------------------------------------


class Model(Payload, kw_only=True, forbid_unknown_fields=False):
    """A model the server offers; its `id` goes into `model=`."""

    id: str = ""
    """Name of the model."""
    owned_by: str | None = None
    """Organization that owns the model, as the server names it."""
    created: int | float | None = None
    """Time of creation in seconds since the epoch."""
    object: str | None = None
    """Usually model."""


class ModelList(Answer, kw_only=True, forbid_unknown_fields=False):
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
