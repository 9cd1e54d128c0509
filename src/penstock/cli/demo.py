"""`penstock demo`: several completions of a real model, streamed at once through the library."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from . import INTERRUPTED
from .demo_figures import Answer, Figures
from .local import local_server
from .output import complain, writing
from .run import UsageError, connect, only_model, run_async

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator


__all__ = ["run"]

PROMPTS = (
    "Explain in three sentences why the sky is blue.",
    "Write a short poem about a river and a mill.",
    "Name five fruits and the colour of each.",
    "What does a turbine do?",
    "Tell a very short story about a lighthouse keeper.",
    "Give three tips for learning to program.",
    "Describe the sea at night.",
    "What is gravity?",
    "How is bread made?",
    "Write a letter of two sentences to a friend far away.",
    "What is the moon made of?",
    "Say something kind about rain.",
)


def run(arguments: argparse.Namespace) -> int:
    """Show the demo and return the exit status."""
    if find_spec("rich") is None:
        raise UsageError('the demo needs rich: pip install "penstock[demo]"')
    if arguments.api_key_env is not None and arguments.base_url is None:
        raise UsageError("--api-key-env needs --base-url")
    if arguments.base_url is None:
        complain("loading the model ...")
    with _where(arguments) as base_url:
        status = run_async(partial(_demo, arguments, base_url), arguments.backend)
    if status == INTERRUPTED:
        complain("interrupted: every stream is closed")
    return status


@contextmanager
def _where(arguments: argparse.Namespace) -> Generator[str]:
    """Yield the base URL of the server that is watched."""
    if arguments.base_url is None:
        with local_server(parallel=arguments.streams) as server:
            yield server.base_url
    else:
        yield arguments.base_url


async def _demo(arguments: argparse.Namespace, base_url: str) -> int:
    from .. import ChunkEvent, fan_out_chunks
    from .demo_view import DemoConsole, print_figures, view

    async with connect(None, base_url, arguments.api_key_env) as client:
        model = arguments.model or await only_model(client)
        prompts = [PROMPTS[number % len(PROMPTS)] for number in range(arguments.streams)]
        requests = [
            {
                "model": model,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": arguments.max_tokens,
                "stream_options": {"include_usage": True},
            }
            for prompt in prompts
        ]
        figures = Figures(
            model, arguments.backend, [Answer(number, text) for number, text in enumerate(prompts)]
        )
        console = DemoConsole()
        with view(console, figures) as show:
            async with fan_out_chunks(client, requests, limit=len(requests)) as events:
                async for event in events:
                    answer = figures.answers[event.index]
                    if isinstance(event, ChunkEvent):
                        text = answer.add(event.chunk)
                    else:
                        answer.end(event)
                        text = ""
                    with writing():
                        show(answer, text)
            figures.ended = time.monotonic()
        with writing():
            print_figures(console, figures)
    return 1 if any(answer.error for answer in figures.answers) else 0
