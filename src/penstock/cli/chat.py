"""`penstock chat`: one completion, streamed to the terminal."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from .local import local_server
from .output import complain, write
from .run import UsageError, connect, only_model, run_async

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager

__all__ = ["run"]

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


def run(arguments: argparse.Namespace) -> int:
    """Send the prompt, stream the answer, and return the exit status."""
    prompt = sys.stdin.read() if arguments.prompt == "-" else arguments.prompt
    if not prompt.strip():
        raise UsageError("the prompt is empty")
    if arguments.api_key_env is not None and arguments.base_url is None:
        raise UsageError("--api-key-env needs --base-url; a provider has its own variable")
    server: AbstractContextManager[str | None]
    if arguments.local:
        server = local_server(parallel=1)
    else:
        server = nullcontext(arguments.base_url)
    with server as base_url:
        return run_async(partial(_chat, arguments, prompt, base_url), arguments.backend)


async def _chat(arguments: argparse.Namespace, prompt: str, base_url: str | None) -> int:
    messages = [{"role": "user", "content": prompt}]
    if arguments.system is not None:
        messages.insert(0, {"role": "system", "content": arguments.system})
    options: dict[str, Any] = {
        "max_tokens": arguments.max_tokens,
        "temperature": arguments.temperature,
    }
    given = {name: value for name, value in options.items() if value is not None}
    finish_reason = None
    at_line_start = True
    async with connect(arguments.provider, base_url, arguments.api_key_env) as client:
        model = arguments.model or await only_model(client)
        try:
            async with client.chat.completions.stream(
                model=model, messages=messages, **given
            ) as stream:
                async for chunk in stream:
                    for choice in chunk.choices:
                        finish_reason = choice.finish_reason or finish_reason
                        _show_thinking(choice.delta.reasoning)
                        text = choice.delta.content or choice.delta.refusal
                        if text:
                            write(text)
                            at_line_start = text.endswith("\n")
        finally:
            if not at_line_start:
                write("\n")
    if finish_reason not in {None, "stop"}:
        complain(f"penstock: the answer ended early: {finish_reason}")
    return 0


def _show_thinking(text: str | None) -> None:
    """Show a reasoning model's thoughts, dimmed, on standard error, if that is a terminal."""
    if text and sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(f"{DIM}{text}{PLAIN}")
        sys.stderr.flush()
