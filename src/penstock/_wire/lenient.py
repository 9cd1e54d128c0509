"""Builds responses from JSON that does not fit the declared types.

Servers send null for lists, floats for integers, numbers for ids, lists of parts for text;
none of that breaks a stream (rules 5 and 10 of the wire). Each builder takes parsed JSON and
chooses the nearest value of the declared type, or else None or the field's default. The
payload itself stays in `raw`. Members that have no field were set aside before, in EXTRA.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from penstock._typed.members import EXTRA
from penstock.types import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    Choice,
    ChoiceDelta,
    ChoiceLogprobs,
    ChunkChoice,
    CompletionTokensDetails,
    Function,
    FunctionDelta,
    GroqExtras,
    Model,
    PromptTokensDetails,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    TopLogprob,
    Usage,
)

from .json_values import (
    any_text,
    as_number,
    as_object,
    as_text,
    content_text,
    count,
    is_list,
    is_object,
    objects,
    whole,
)

__all__ = ["build_chunk", "build_completion", "build_model", "build_usage"]

_Part = TypeVar("_Part", ChunkChoice, Choice, ChoiceLogprobs)
_Call = TypeVar("_Call", ToolCallDelta, ToolCall)
_Details = TypeVar("_Details", PromptTokensDetails, CompletionTokensDetails)


def build_chunk(payload: dict[str, Any]) -> ChatCompletionChunk:
    """Build a chunk of a streamed completion."""
    return ChatCompletionChunk(
        **_head(payload),
        choices=[
            _nearest(ChunkChoice, _chunk_choice, choice)
            for choice in objects(payload.get("choices"))
        ],
        obfuscation=payload.get("obfuscation"),
        x_groq=_groq(payload.get("x_groq")),
        error=payload.get("error"),
    )


def build_completion(payload: dict[str, Any]) -> ChatCompletion:
    """Build a whole completion."""
    return ChatCompletion(
        **_head({"object": "chat.completion", **payload}),
        choices=[_nearest(Choice, _choice, choice) for choice in objects(payload.get("choices"))],
    )


def build_model(payload: dict[str, Any]) -> Model:
    """Build a model of the list of models."""
    return Model(
        id=as_text(payload.get("id")) or "",
        owned_by=as_text(payload.get("owned_by")),
        created=as_number(payload.get("created")),
        object=as_text(payload.get("object")),
    )


def _nearest(
    kind: type[_Part], build: Callable[[dict[str, Any]], _Part], payload: dict[str, Any]
) -> _Part:
    """Convert a part that fits its type, which most parts of an odd response do; or build it."""
    try:
        return msgspec.convert(payload, kind)
    except (msgspec.ValidationError, RecursionError):
        return build(payload)


def _chunk_choice(choice: dict[str, Any]) -> ChunkChoice:
    return ChunkChoice(
        index=count(choice.get("index")),
        delta=_delta(choice.get("delta")),
        finish_reason=as_text(choice.get("finish_reason")),
        logprobs=_logprobs(choice.get("logprobs")),
        usage=build_usage(choice.get("usage")),
        error=choice.get("error"),
        token_ids=_token_ids(choice.get("token_ids")),
        extra=_extra(choice),
    )


def _choice(choice: dict[str, Any]) -> Choice:
    return Choice(
        index=count(choice.get("index")),
        message=_message(choice.get("message")),
        finish_reason=as_text(choice.get("finish_reason")),
        logprobs=_logprobs(choice.get("logprobs")),
        extra=_extra(choice),
    )


def _head(payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": as_text(payload.get("id")),
        "object": as_text(payload.get("object")),
        "created": as_number(payload.get("created")),
        "model": as_text(payload.get("model")),
        "usage": build_usage(payload.get("usage")),
        "system_fingerprint": as_text(payload.get("system_fingerprint")),
        "service_tier": as_text(payload.get("service_tier")),
        "extra": _extra(payload),
    }


def _extra(payload: dict[str, Any]) -> dict[str, Any] | UnsetType:
    extra: dict[str, Any] | UnsetType = payload.get(EXTRA, UNSET)
    return extra


def _token_ids(value: Any) -> list[int] | None:
    return [whole(item) or 0 for item in value] if is_list(value) else None


# --- messages and deltas -------------------------------------------------------------


def _delta(value: Any) -> ChoiceDelta:
    delta = as_object(value)
    return ChoiceDelta(
        **_texts(delta),
        role=as_text(delta.get("role")),
        tool_calls=_tool_calls(delta, _tool_call_delta),
    )


def _message(value: Any) -> ChatCompletionMessage:
    message = as_object(value)
    return ChatCompletionMessage(
        **_texts(message),
        role=_text_or("assistant", message.get("role")),
        tool_calls=_tool_calls(message, _tool_call),
    )


def _text_or(default: str, value: Any) -> str:
    text = as_text(value)
    return default if text is None else text


def _texts(message: dict[str, Any]) -> dict[str, Any]:
    """Return the members that deltas and messages share.

    Reasoning and refusals may also be parts of the content.
    """
    content = message.get("content")
    refusal = any_text(message.get("refusal"))
    reasoning = any_text(message.get("reasoning"))
    reasoning_content = any_text(message.get("reasoning_content"))
    annotations = message.get("annotations")
    return {
        "content": content_text(content, "text"),
        # An empty refusal stays empty if no part of the content is one.
        "refusal": refusal or content_text(content, "refusal") or refusal,
        "reasoning_field": reasoning,
        "reasoning_content_field": reasoning_content
        or (None if reasoning else content_text(content, "thinking"))
        or reasoning_content,
        "annotations": annotations if is_list(annotations) else None,
        "extra": _extra(message),
    }


def _tool_calls(
    message: dict[str, Any], build: Callable[[dict[str, Any]], _Call]
) -> list[_Call] | None:
    calls = message.get("tool_calls")
    if is_object(calls):
        return [build(calls)]
    return [build(call) for call in objects(calls)] if is_list(calls) else None


def _tool_call_delta(call: dict[str, Any]) -> ToolCallDelta:
    return ToolCallDelta(
        index=whole(call.get("index")),
        id=as_text(call.get("id")),
        type=as_text(call.get("type")),
        function=_function_delta(call.get("function")),
        extra=_extra(call),
    )


def _tool_call(call: dict[str, Any]) -> ToolCall:
    return ToolCall(
        id=as_text(call.get("id")),
        type=_text_or("function", call.get("type")),
        function=_function(call.get("function")),
        extra=_extra(call),
    )


def _function_delta(function: Any) -> FunctionDelta | None:
    if not is_object(function):
        return None
    return FunctionDelta(
        name=as_text(function.get("name")),
        arguments=_arguments(function.get("arguments")),
        extra=_extra(function),
    )


def _function(value: Any) -> Function:
    function = as_object(value)
    return Function(
        name=as_text(function.get("name")) or "",
        arguments=_arguments(function.get("arguments")) or "",
        extra=_extra(function),
    )


def _arguments(value: Any) -> str | None:
    # Some servers send the arguments parsed.
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return as_text(value)


# --- usage and log probabilities -----------------------------------------------------


def build_usage(usage: Any) -> Usage | None:
    """Build token counts; None if there are none."""
    if not is_object(usage):
        return None
    prompt = usage.get("prompt_tokens_details")
    completion = usage.get("completion_tokens_details")
    return Usage(
        prompt_tokens=whole(usage.get("prompt_tokens")) or 0,
        completion_tokens=whole(usage.get("completion_tokens")) or 0,
        total_tokens=whole(usage.get("total_tokens")) or 0,
        prompt_tokens_details=_details(prompt, PromptTokensDetails),
        completion_tokens_details=_details(completion, CompletionTokensDetails),
        extra=_extra(usage),
    )


def _details(counts: Any, kind: type[_Details]) -> _Details | None:
    if not is_object(counts):
        return None
    names = (name for name in kind.__struct_fields__ if name != "extra")
    return kind(**{name: whole(counts.get(name)) for name in names}, extra=_extra(counts))


def _groq(extras: Any) -> GroqExtras | None:
    if not is_object(extras):
        return None
    return GroqExtras(
        id=as_text(extras.get("id")),
        usage=build_usage(extras.get("usage")),
        error=extras.get("error"),
        extra=_extra(extras),
    )


def _logprobs(logprobs: Any) -> ChoiceLogprobs | None:
    if not is_object(logprobs):
        return None
    return _nearest(ChoiceLogprobs, _odd_logprobs, logprobs)


def _odd_logprobs(logprobs: dict[str, Any]) -> ChoiceLogprobs:
    return ChoiceLogprobs(
        content=_token_logprobs(logprobs.get("content")),
        refusal=_token_logprobs(logprobs.get("refusal")),
        extra=_extra(logprobs),
    )


def _token_logprobs(value: Any) -> list[TokenLogprob] | None:
    if not is_list(value):
        return None
    return [
        TokenLogprob(
            **_logprob(token),
            top_logprobs=[
                TopLogprob(**_logprob(top)) for top in objects(token.get("top_logprobs"))
            ],
        )
        for token in objects(value)
    ]


def _logprob(token: dict[str, Any]) -> dict[str, Any]:
    logprob = token.get("logprob")
    codes = token.get("bytes")
    return {
        "token": as_text(token.get("token")) or "",
        # Infinities stay: Python servers write -Infinity for an impossible token.
        "logprob": logprob if isinstance(logprob, float) else float(whole(logprob) or 0),
        "bytes": [whole(code) or 0 for code in codes] if is_list(codes) else None,
        "extra": _extra(token),
    }
