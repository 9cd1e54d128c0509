"""`penstock chat`: an answer streamed to the terminal, or a conversation in turns."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from . import INTERRUPTED
from .history import History
from .output import complain, write
from .run import UsageError, only_model, run_async
from .server import client_for, server_of

if TYPE_CHECKING:
    import argparse

    from .. import ChatCompletion, CompletionStream

__all__ = ["run"]

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


def run(arguments: argparse.Namespace) -> int:
    """Answer the prompt, or one after the other, and return the exit status."""
    history = History(arguments.history, arguments.system)
    with server_of(arguments, parallel=1) as base_url:
        if arguments.prompt is None and sys.stdin is not None and sys.stdin.isatty():
            return _turns(arguments, history, base_url)
        prompt = arguments.prompt
        if prompt in (None, "-"):
            prompt = "" if sys.stdin is None else sys.stdin.read()
        if not prompt.strip():
            raise UsageError("the prompt is empty")
        return _turn(arguments, history, base_url, prompt)


def _turns(arguments: argparse.Namespace, history: History, base_url: str | None) -> int:
    """Ask for prompts until Ctrl-D. An error or Ctrl-C ends an answer, not the conversation."""
    from .. import PenstockError

    while True:
        try:
            prompt = input("> ")
        except EOFError:
            write("\n")
            return 0
        if not prompt.strip():
            continue
        try:
            _turn(arguments, history, base_url, prompt)
        except PenstockError as error:
            complain(f"penstock: {' '.join(str(error).split())}")


def _turn(
    arguments: argparse.Namespace, history: History, base_url: str | None, prompt: str
) -> int:
    messages = history.with_prompt(prompt)
    answer: list[ChatCompletion] = []
    ask = partial(_ask, arguments, messages, base_url, answer)
    status = run_async(ask, arguments.backend)
    if answer and status != INTERRUPTED:
        history.add(prompt, answer[0])
    return status


async def _ask(
    arguments: argparse.Namespace,
    messages: list[dict[str, Any]],
    base_url: str | None,
    answer: list[ChatCompletion],
) -> int:
    from .. import Timeouts

    options: dict[str, Any] = {
        "max_tokens": arguments.max_tokens,
        "temperature": arguments.temperature,
        "stream_options": {"include_usage": True} if arguments.usage else None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    timeouts = Timeouts(total=arguments.timeout)
    async with client_for(arguments, base_url, timeouts=timeouts) as client:
        model = arguments.model or await only_model(client)
        async with client.chat.completions.stream(
            model=model, messages=messages, **given
        ) as stream:
            if arguments.json:
                await stream.collect()
                write(f"{json.dumps(stream.partial.to_dict())}\n")
            else:
                await _show(stream)
            answer.append(stream.partial)
            if arguments.usage:
                complain(_figures(stream))
    reasons = {choice.finish_reason for choice in answer[0].choices} - {None, "stop"}
    if reasons:
        complain(f"penstock: the answer ended early: {', '.join(map(str, reasons))}")
    return 0


async def _show(stream: CompletionStream) -> None:
    at_line_start = True
    try:
        async for chunk in stream:
            for choice in chunk.choices:
                _show_thinking(choice.delta.reasoning)
                text = choice.delta.content or choice.delta.refusal
                if text:
                    write(text)
                    at_line_start = text.endswith("\n")
    finally:
        if not at_line_start:
            write("\n")


def _show_thinking(text: str | None) -> None:
    """Show a reasoning model's thoughts, dimmed, on standard error, if that is a terminal."""
    if text and sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(f"{DIM}{text}{PLAIN}")
        sys.stderr.flush()


def _figures(stream: CompletionStream) -> str:
    """Return tokens and times of an answer in a line."""
    numbers, usage = stream.statistics(), stream.partial.usage
    parts = ["no usage"]
    if usage is not None:
        parts = [f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"]
    if numbers.first_token is not None:
        parts.append(f"first after {numbers.first_token:.2f} s")
    if numbers.total is not None:
        parts.append(f"all after {numbers.total:.2f} s")
    return ", ".join(parts)
