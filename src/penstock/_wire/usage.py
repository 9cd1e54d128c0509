"""The usage that a body or an event reports, whatever the interface.

    completions, embeddings    {"usage": {"prompt_tokens", "completion_tokens", "total_tokens"}}
    responses                  {"response": {"usage": {"input_tokens", "output_tokens"}}}
    messages                   {"message": {"usage": {"input_tokens"}}},
                               then {"usage": {"output_tokens"}}

It is looked for only in data that has the word.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.types import Usage

from .json_values import is_object, whole
from .lenient import build_usage

__all__ = ["usage_in"]


class _Reports(msgspec.Struct):
    usage: Any = None
    response: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()


def usage_in(data: bytes, before: Usage | None = None) -> Usage | None:
    """Return the usage in a JSON body or an event's data, in the names of chat completions.

    What it does not say is taken from the usage `before`.
    """
    if b'"usage"' not in data:
        return before
    try:
        reports = msgspec.json.decode(data, type=_Reports)
        for inner in (reports.response, reports.message):
            if not is_object(reports.usage) and b'"usage"' in bytes(inner):
                reports.usage = msgspec.json.decode(inner, type=_Reports).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return before
    return _added(before, reports.usage)


def _added(before: Usage | None, reported: Any) -> Usage | None:
    usage = build_usage(reported)
    if usage is None:
        return before
    known = before or Usage()
    prompt = usage.prompt_tokens or whole(reported.get("input_tokens")) or known.prompt_tokens
    answer = usage.completion_tokens or whole(reported.get("output_tokens"))
    answer = answer or known.completion_tokens
    return msgspec.structs.replace(
        usage,
        prompt_tokens=prompt,
        completion_tokens=answer,
        total_tokens=usage.total_tokens or prompt + answer,
    )
