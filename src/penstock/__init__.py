"""Stream completions from OpenAI-compatible servers, on asyncio and trio.

Importing this package loads next to nothing: each name below brings in what it needs when
it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import batch as batch
    from . import blocking as blocking
    from . import engines as engines
    from . import errors as errors
    from . import observing as observing
    from . import providers as providers
    from . import types as types
    from ._call.event_stream import EventStream as EventStream
    from ._call.lifecycle import StreamState as StreamState
    from ._call.response_stream import ResponseStream as ResponseStream
    from ._call.stream import CompletionStream as CompletionStream
    from ._call.text_stream import TextCompletionStream as TextCompletionStream
    from ._client.client import AsyncClient as AsyncClient
    from ._client.params import ChatParams as ChatParams
    from ._client.params import TextParams as TextParams
    from ._client.resources import ChatRequest as ChatRequest
    from ._client.response import Response as Response
    from ._client.spread import ServerStatistics as ServerStatistics
    from ._client.spread import Spread as Spread
    from ._client.spread import SpreadStatistics as SpreadStatistics
    from ._client.statistics import ClientStatistics as ClientStatistics
    from ._limiter.limiter import Limiter as Limiter
    from ._limiter.limiter import LimiterStatistics as LimiterStatistics
    from ._many.channels import ChunkReceiveStream as ChunkReceiveStream
    from ._many.channels import CompletionChannel as CompletionChannel
    from ._many.channels import fan_out_channels as fan_out_channels
    from ._many.chunks import ChunkEvent as ChunkEvent
    from ._many.chunks import ResultEvent as ResultEvent
    from ._many.chunks import fan_out_chunks as fan_out_chunks
    from ._many.fan_out import FanOutStatistics as FanOutStatistics
    from ._many.fan_out import Result as Result
    from ._many.fan_out import fan_out as fan_out
    from ._many.race import Attempt as Attempt
    from ._many.race import RaceStatistics as RaceStatistics
    from ._many.race import race as race
    from ._version import __version__ as __version__
    from ._wire.events import Event as Event
    from .blocking.client import Client as Client
    from .config import ClientConfig as ClientConfig
    from .errors import AllAttemptsFailed as AllAttemptsFailed
    from .errors import APIConnectionError as APIConnectionError
    from .errors import APIResponseError as APIResponseError
    from .errors import APIStatusError as APIStatusError
    from .errors import APITimeoutError as APITimeoutError
    from .errors import AuthenticationError as AuthenticationError
    from .errors import BadRequestError as BadRequestError
    from .errors import ConflictError as ConflictError
    from .errors import ConnectTimeout as ConnectTimeout
    from .errors import EndpointNotReadyError as EndpointNotReadyError
    from .errors import FirstTokenTimeout as FirstTokenTimeout
    from .errors import IdleTimeout as IdleTimeout
    from .errors import IncompleteStreamError as IncompleteStreamError
    from .errors import InsufficientCreditsError as InsufficientCreditsError
    from .errors import InternalServerError as InternalServerError
    from .errors import NotFoundError as NotFoundError
    from .errors import PenstockError as PenstockError
    from .errors import PermissionDeniedError as PermissionDeniedError
    from .errors import RateLimitError as RateLimitError
    from .errors import ReadTimeout as ReadTimeout
    from .errors import SlotTimeout as SlotTimeout
    from .errors import StreamBusyError as StreamBusyError
    from .errors import StreamClosedError as StreamClosedError
    from .errors import StreamError as StreamError
    from .errors import StreamInterruptedError as StreamInterruptedError
    from .errors import StructuredOutputError as StructuredOutputError
    from .errors import ToolArgumentsError as ToolArgumentsError
    from .errors import TotalTimeout as TotalTimeout
    from .errors import UnprocessableEntityError as UnprocessableEntityError
    from .headers import Headers as Headers
    from .observing.figures import Gaps as Gaps
    from .observing.figures import StreamStatistics as StreamStatistics
    from .observing.figures import Waits as Waits
    from .providers import Provider as Provider
    from .structured import ParsedChoice as ParsedChoice
    from .structured import ParsedCompletion as ParsedCompletion
    from .structured import ParsedMessage as ParsedMessage
    from .timeouts import Timeouts as Timeouts
    from .tools import Tool as Tool
    from .tools import tool as tool
    from .tools import tool_message as tool_message
    from .types import Audio as Audio
    from .types import ChatCompletion as ChatCompletion
    from .types import ChatCompletionChunk as ChatCompletionChunk
    from .types import ChatCompletionMessage as ChatCompletionMessage
    from .types import Choice as Choice
    from .types import ChoiceDelta as ChoiceDelta
    from .types import ChoiceLogprobs as ChoiceLogprobs
    from .types import ChunkChoice as ChunkChoice
    from .types import CompletionTokensDetails as CompletionTokensDetails
    from .types import CustomCall as CustomCall
    from .types import Function as Function
    from .types import FunctionDelta as FunctionDelta
    from .types import Model as Model
    from .types import ModelList as ModelList
    from .types import PromptTokensDetails as PromptTokensDetails
    from .types import TextChoice as TextChoice
    from .types import TextCompletion as TextCompletion
    from .types import TextLogprobs as TextLogprobs
    from .types import TokenLogprob as TokenLogprob
    from .types import ToolCall as ToolCall
    from .types import ToolCallDelta as ToolCallDelta
    from .types import TopLogprob as TopLogprob
    from .types import Usage as Usage
else:
    from ._exports import exports

    __getattr__, __dir__, __all__ = exports(
        __name__,
        {
            ".": "batch blocking engines errors observing providers types",
            "_call.event_stream": "EventStream",
            "_call.lifecycle": "StreamState",
            "_call.response_stream": "ResponseStream",
            "_call.stream": "CompletionStream",
            "_call.text_stream": "TextCompletionStream",
            "observing.figures": "Gaps StreamStatistics Waits",
            "_client.client": "AsyncClient",
            "_client.params": "ChatParams TextParams",
            "_client.resources": "ChatRequest",
            "_client.response": "Response",
            "_client.spread": "ServerStatistics Spread SpreadStatistics",
            "_client.statistics": "ClientStatistics",
            "_limiter.limiter": "Limiter LimiterStatistics",
            "_many.channels": "ChunkReceiveStream CompletionChannel fan_out_channels",
            "_many.chunks": "ChunkEvent fan_out_chunks",
            "_many.fan_out": "FanOutStatistics fan_out",
            "_many.race": "Attempt RaceStatistics race",
            "_many.results": "Result ResultEvent",
            "_version": "__version__",
            "_wire.events": "Event",
            "blocking.client": "Client",
            "config": "ClientConfig",
            "errors": (
                "APIConnectionError APIResponseError APIStatusError APITimeoutError "
                "AllAttemptsFailed AuthenticationError BadRequestError ConflictError "
                "ConnectTimeout EndpointNotReadyError FirstTokenTimeout IdleTimeout "
                "IncompleteStreamError InsufficientCreditsError InternalServerError "
                "NotFoundError PenstockError PermissionDeniedError RateLimitError ReadTimeout "
                "SlotTimeout StreamBusyError StreamClosedError StreamError "
                "StreamInterruptedError StructuredOutputError ToolArgumentsError TotalTimeout "
                "UnprocessableEntityError"
            ),
            "headers": "Headers",
            "providers": "Provider",
            "structured": "ParsedChoice ParsedCompletion ParsedMessage",
            "timeouts": "Timeouts",
            "tools": "Tool tool tool_message",
            "types": (
                "Audio ChatCompletion ChatCompletionChunk ChatCompletionMessage Choice ChoiceDelta "
                "ChoiceLogprobs ChunkChoice CompletionTokensDetails CustomCall Function "
                "FunctionDelta Model ModelList PromptTokensDetails TextChoice TextCompletion "
                "TextLogprobs TokenLogprob ToolCall ToolCallDelta TopLogprob Usage"
            ),
        },
    )
