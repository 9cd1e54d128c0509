"""Responses as typed values that keep the untouched payload.

The field names are those of OpenAI's chat completions reference. Servers differ: a member
that may be missing is optional here. Members without a field survive in `to_dict()`, `[...]`
and `in` of every part, in whole answers as in those assembled from chunks, and go back to the
server with a message that is put into `messages`.

Some members have no field but a property, because most answers do not have them: `audio`,
`images`, `function_call`, `custom`, `token_ids`, `prompt_token_ids`, `stop_reason`.
"""

from __future__ import annotations

from .base import Answer as Answer
from .base import Part as Part
from .base import Payload as Payload
from .chunks import ChatCompletionChunk, ChunkChoice
from .chunks import GroqExtras as GroqExtras
from .completions import ChatCompletion, Choice
from .json_text import decode_json as decode_json
from .json_text import decode_object as decode_object
from .logprobs import ChoiceLogprobs, TokenLogprob, TopLogprob
from .messages import Audio, ChatCompletionMessage, ChoiceDelta
from .messages import MessageMembers as MessageMembers
from .models import Model, ModelList
from .text import TextChoice, TextCompletion, TextLogprobs
from .tool_calls import CallsTool as CallsTool
from .tool_calls import CustomCall, Function, FunctionDelta, ToolCall, ToolCallDelta
from .usage import CompletionTokensDetails, PromptTokensDetails, Usage

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
