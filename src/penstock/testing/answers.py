"""Answers of a model in one call: text, reasoning and tool calls, streamed or whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from .replies import Event, completion, error_reply, json_reply, sse_reply, tokens
from .script import Pause, Player, RecordedRequest, Reply, Script

Arguments: TypeAlias = "str | Mapping[str, Any]"
ToolCallSpec: TypeAlias = "tuple[str, Arguments] | tuple[str, str, Arguments]"
"""(name, arguments) or (id, name, arguments); arguments as JSON text or as a mapping."""


def text_reply(
    *pieces: str,
    reasoning: Sequence[str] = (),
    usage: Mapping[str, Any] | None = None,
    finish: str = "stop",
    model: str = "test-model",
    every: float = 0.0,
    stream: bool = True,
) -> Reply:
    """Return an answer of these pieces of text, one chunk each.

    `reasoning`: pieces before the text, as `reasoning_content`. `usage`: sent in the last chunk.
    `every`: seconds before each chunk. `stream=False`: the whole answer as one JSON object, as
    a server answers a request without `stream`.
    """
    if not stream:
        whole = completion("".join(pieces), finish=finish, usage=usage, model=model)
        if reasoning:
            whole["choices"][0]["message"]["reasoning_content"] = "".join(reasoning)
        return json_reply(whole)
    first, *rest = tokens(*pieces, finish=finish, usage=usage, model=model)
    thoughts = [_delta({"reasoning_content": piece}, model=model) for piece in reasoning]
    return _slowly([first, *thoughts, *rest], every)


def tool_calls_reply(
    *calls: ToolCallSpec,
    text: str = "",
    usage: Mapping[str, Any] | None = None,
    model: str = "test-model",
    every: float = 0.0,
    stream: bool = True,
) -> Reply:
    """Return an answer that calls these tools, in the pieces in which OpenAI sends them.

    A call is `("get_weather", {"city": "Oslo"})`, or with an id before it; without one the ids
    are call_0, call_1, and so on. `text` comes before the calls. The rest is as in `text_reply`.
    """
    whole = [_whole_call(number, call) for number, call in enumerate(calls)]
    if not stream:
        answer = completion(text, finish="tool_calls", usage=usage, model=model)
        answer["choices"][0]["message"] |= {
            "content": text or None,
            "tool_calls": [
                {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
                for id, name, arguments in whole
            ],
        }
        return json_reply(answer)
    said = [text] if text else []
    first, *rest = tokens(*said, finish="tool_calls", usage=usage, model=model)
    texts, last = rest[: len(said)], rest[len(said) :]
    pieces = [
        piece
        for index, (id, name, arguments) in enumerate(whole)
        for piece in tool_call_chunks(id, name, arguments, index, model=model)
    ]
    return _slowly([first, *texts, *pieces, *last], every)


def tool_call_piece(
    index: int | None = 0,
    id: str | None = None,
    name: str | None = None,
    arguments: str | None = None,
    *,
    choice: int = 0,
    finish: str | None = None,
    model: str = "test-model",
) -> dict[str, Any]:
    """Return one chunk with a piece of a tool call; members that are None are left out."""
    function = {"name": name, "arguments": arguments}
    piece: dict[str, Any] = {"index": index, "id": id, "function": _given(function)}
    return _delta({"tool_calls": [_given(piece)]}, choice=choice, finish=finish, model=model)


def tool_call_chunks(
    id: str, name: str, arguments: str, index: int = 0, *, model: str = "test-model"
) -> list[dict[str, Any]]:
    """Return the chunks of one call as OpenAI sends them: name, then arguments in halves."""
    middle = len(arguments) // 2
    return [
        tool_call_piece(index, id, name, "", model=model),
        tool_call_piece(index, arguments=arguments[:middle], model=model),
        tool_call_piece(index, arguments=arguments[middle:], model=model),
    ]


def _whole_call(number: int, call: ToolCallSpec) -> tuple[str, str, str]:
    id, name, arguments = call if len(call) == 3 else (f"call_{number}", *call)
    return id, name, arguments if isinstance(arguments, str) else json.dumps(dict(arguments))


def _delta(
    delta: dict[str, Any], *, model: str, choice: int = 0, finish: str | None = None
) -> dict[str, Any]:
    chunk = tokens(role_first=False, model=model)[0]
    return {**chunk, "choices": [{"index": choice, "delta": delta, "finish_reason": finish}]}


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _slowly(chunks: Sequence[Event], every: float) -> Reply:
    if not every:
        return sse_reply(chunks)
    return sse_reply([part for chunk in chunks for part in (Pause(every), chunk)])


def by_model(
    scripts: Mapping[str, Script], *, other: Script | None = None
) -> Callable[[RecordedRequest], Reply]:
    """Return a script with an answer, or a script, for each model.

    `network = MemoryNetwork(by_model({"a": text_reply("Hello"), "b": error_reply(503)}))`.
    A request for another model gets `other`, or by default the 404 that OpenAI sends.
    """
    players = {model: Player(script) for model, script in scripts.items()}
    fallback: Player | None = None if other is None else Player(other)

    def reply_to(request: RecordedRequest) -> Reply:
        model = str(request.json.get("model")) if request.body else ""
        player = players.get(model, fallback)
        if player is None:
            message = f"The model `{model}` does not exist or you do not have access to it."
            return error_reply(404, message, code="model_not_found", type="invalid_request_error")
        return player.reply_to(request)

    return reply_to


def by_stream(streamed: Script, whole: Script) -> Callable[[RecordedRequest], Reply]:
    """Return a script with one answer for `"stream": true`, and one for other requests."""
    streaming, other = Player(streamed), Player(whole)

    def reply_to(request: RecordedRequest) -> Reply:
        wanted = request.body and request.json.get("stream")
        return (streaming if wanted else other).reply_to(request)

    return reply_to
