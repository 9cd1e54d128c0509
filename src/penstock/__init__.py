"""Stream completions from OpenAI-compatible servers, on asyncio and trio.

Importing this package loads next to nothing: each name below brings in what it needs when
it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import blocking, errors, observing, providers, types
    from ._call.event_stream import EventStream
    from ._call.lifecycle import StreamState
    from ._call.response_stream import ResponseStream
    from ._call.stream import CompletionStream
    from ._call.text_stream import TextCompletionStream
    from ._call.timings import StreamStatistics
    from ._client.client import AsyncClient
    from ._client.resources import ChatRequest
    from ._client.response import Response
    from ._limiter.limiter import Limiter, LimiterStatistics
    from ._many.channels import ChunkReceiveStream, CompletionChannel, fan_out_channels
    from ._many.chunks import ChunkEvent, ResultEvent, fan_out_chunks
    from ._many.fan_out import FanOutStatistics, Result, fan_out
    from ._many.race import Attempt, RaceStatistics, race
    from ._wire.events import Event
    from .blocking.client import Client
    from .config import ClientConfig
    from .errors import (
        AllAttemptsFailed,
        APIConnectionError,
        APIResponseError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        ConflictError,
        ConnectTimeout,
        EndpointNotReadyError,
        FirstTokenTimeout,
        IdleTimeout,
        IncompleteStreamError,
        InsufficientCreditsError,
        InternalServerError,
        NotFoundError,
        PenstockError,
        PermissionDeniedError,
        RateLimitError,
        ReadTimeout,
        SlotTimeout,
        StreamBusyError,
        StreamClosedError,
        StreamError,
        StreamInterruptedError,
        StructuredOutputError,
        ToolArgumentsError,
        TotalTimeout,
        UnprocessableEntityError,
    )
    from .headers import Headers
    from .providers import Provider
    from .structured import ParsedChoice, ParsedCompletion, ParsedMessage
    from .timeouts import Timeouts
    from .tools import Tool, tool, tool_message
    from .types import (
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
        Model,
        ModelList,
        PromptTokensDetails,
        TextChoice,
        TextCompletion,
        TextLogprobs,
        TokenLogprob,
        ToolCall,
        ToolCallDelta,
        TopLogprob,
        Usage,
    )

__all__ = [
    "APIConnectionError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AllAttemptsFailed",
    "AsyncClient",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionMessage",
    "ChatRequest",
    "Choice",
    "ChoiceDelta",
    "ChoiceLogprobs",
    "ChunkChoice",
    "ChunkEvent",
    "ChunkReceiveStream",
    "Client",
    "ClientConfig",
    "CompletionChannel",
    "CompletionStream",
    "CompletionTokensDetails",
    "ConflictError",
    "ConnectTimeout",
    "EndpointNotReadyError",
    "Event",
    "EventStream",
    "FanOutStatistics",
    "FirstTokenTimeout",
    "Function",
    "FunctionDelta",
    "Headers",
    "IdleTimeout",
    "IncompleteStreamError",
    "InsufficientCreditsError",
    "InternalServerError",
    "Limiter",
    "LimiterStatistics",
    "Model",
    "ModelList",
    "NotFoundError",
    "ParsedChoice",
    "ParsedCompletion",
    "ParsedMessage",
    "PenstockError",
    "PermissionDeniedError",
    "PromptTokensDetails",
    "Provider",
    "RaceStatistics",
    "RateLimitError",
    "ReadTimeout",
    "Response",
    "ResponseStream",
    "Result",
    "ResultEvent",
    "SlotTimeout",
    "StreamBusyError",
    "StreamClosedError",
    "StreamError",
    "StreamInterruptedError",
    "StreamState",
    "StreamStatistics",
    "StructuredOutputError",
    "TextChoice",
    "TextCompletion",
    "TextCompletionStream",
    "TextLogprobs",
    "Timeouts",
    "TokenLogprob",
    "Tool",
    "ToolArgumentsError",
    "ToolCall",
    "ToolCallDelta",
    "TopLogprob",
    "TotalTimeout",
    "UnprocessableEntityError",
    "Usage",
    "__version__",
    "blocking",
    "errors",
    "fan_out",
    "fan_out_channels",
    "fan_out_chunks",
    "observing",
    "providers",
    "race",
    "tool",
    "tool_message",
    "types",
]

_HOME = {
    "_client.client": ("AsyncClient",),
    "_client.response": ("Response",),
    "_many.channels": (
        "ChunkReceiveStream",
        "CompletionChannel",
        "fan_out_channels",
    ),
    "_many.chunks": (
        "ChunkEvent",
        "ResultEvent",
        "fan_out_chunks",
    ),
    "_many.fan_out": (
        "FanOutStatistics",
        "Result",
        "fan_out",
    ),
    "_limiter.limiter": (
        "Limiter",
        "LimiterStatistics",
    ),
    "_many.race": (
        "Attempt",
        "RaceStatistics",
        "race",
    ),
    "_call.event_stream": ("EventStream",),
    "_call.response_stream": ("ResponseStream",),
    "_call.stream": ("CompletionStream",),
    "_call.text_stream": ("TextCompletionStream",),
    "_wire.events": ("Event",),
    "_call.timings": ("StreamStatistics",),
    "_client.resources": ("ChatRequest",),
    "_call.lifecycle": ("StreamState",),
    "blocking.client": ("Client",),
    "config": ("ClientConfig",),
    "errors": (
        "APIConnectionError",
        "APIResponseError",
        "APIStatusError",
        "APITimeoutError",
        "AllAttemptsFailed",
        "AuthenticationError",
        "BadRequestError",
        "ConflictError",
        "ConnectTimeout",
        "EndpointNotReadyError",
        "FirstTokenTimeout",
        "IdleTimeout",
        "IncompleteStreamError",
        "InsufficientCreditsError",
        "InternalServerError",
        "NotFoundError",
        "PenstockError",
        "PermissionDeniedError",
        "RateLimitError",
        "ReadTimeout",
        "SlotTimeout",
        "StreamBusyError",
        "StreamClosedError",
        "StreamError",
        "StreamInterruptedError",
        "StructuredOutputError",
        "ToolArgumentsError",
        "TotalTimeout",
        "UnprocessableEntityError",
    ),
    "headers": ("Headers",),
    "providers": ("Provider",),
    "structured": (
        "ParsedChoice",
        "ParsedCompletion",
        "ParsedMessage",
    ),
    "timeouts": ("Timeouts",),
    "tools": (
        "Tool",
        "tool",
        "tool_message",
    ),
    "types": (
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
    ),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
_SUBMODULES = ("blocking", "errors", "observing", "providers", "types")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f".{name}", __name__)
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
