"""The grammar of the command line. Imported for every command: nothing heavier than argparse."""

from __future__ import annotations

import argparse

from .._version import __version__
from .batch_options import add_batch_options
from .options import above_zero, add_backend, add_key, add_server, port, positive

__all__ = ["parser"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="penstock",
        description="Streams from OpenAI-compatible servers, in the terminal.",
    )
    top.add_argument("--version", action="version", version=f"penstock {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _demo(
        commands.add_parser(
            "demo",
            help="watch several completions of a real model stream at once",
            description="Start a small language model on this machine, send it several prompts at"
            " once and show the answers as they grow. Needs no key and no account.",
        )
    )
    _chat(
        commands.add_parser(
            "chat",
            help="talk to a model: one answer, or turn by turn",
            description="Send a prompt and stream the answer to standard output. Without a prompt,"
            " at a terminal, ask and answer in turns; Ctrl-D ends it, and Ctrl-C ends an answer.",
        )
    )
    _models(
        commands.add_parser(
            "models",
            help="list the models of a server, and so check that it answers",
            description="Write the names of the server's models to standard output, and how long"
            " it took to standard error. Exit status 0 says that server and key are in order.",
        )
    )
    _serve(
        commands.add_parser(
            "serve",
            help="serve the embedded model on a port of this machine",
            description="Serve a small language model in the form of OpenAI's API, to code against"
            " without a key. Ctrl-C stops it.",
        )
    )
    batch = commands.add_parser(
        "batch",
        help="process a file of prompts",
        description="Ask every row of INPUT that has no answer in OUTPUT yet, and append the"
        " answers. To finish a job, run the same command until it exits with 0.",
    )
    add_batch_options(batch)
    add_key(batch)
    add_backend(batch)
    return top


def _demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--streams", type=positive, default=6, metavar="N", help="default: 6")
    demo.add_argument("--max-tokens", type=positive, default=120, metavar="N", help="default: 120")
    demo.add_argument(
        "--base-url", metavar="URL", help="another server in place of the embedded one"
    )
    demo.add_argument("--model", help="the model to use; needed if the server has several")
    add_key(demo)
    add_backend(demo)


def _chat(chat: argparse.ArgumentParser) -> None:
    chat.add_argument(
        "prompt", nargs="?", help="the prompt; - or nothing reads it from standard input"
    )
    add_server(chat)
    chat.add_argument("--model", help="the model to use; needed if the server has several")
    chat.add_argument("--system", metavar="TEXT", help="the system prompt")
    chat.add_argument("--max-tokens", type=positive, metavar="N")
    chat.add_argument("--temperature", type=float, metavar="T")
    chat.add_argument(
        "--timeout", type=above_zero, metavar="SECONDS", help="for an answer, retries included"
    )
    chat.add_argument(
        "--history",
        metavar="FILE",
        help="JSON Lines of messages: goes on with those in it, and appends the new ones",
    )
    chat.add_argument(
        "--json", action="store_true", help="write the whole completion as a line of JSON"
    )
    chat.add_argument(
        "--usage", action="store_true", help="write tokens and times to standard error"
    )
    add_backend(chat)


def _models(models: argparse.ArgumentParser) -> None:
    add_server(models)
    models.add_argument("--json", action="store_true", help="write each model as a line of JSON")
    models.add_argument(
        "--timeout", type=above_zero, default=10.0, metavar="SECONDS", help="default: 10"
    )
    add_backend(models)


def _serve(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--port", type=port, default=8080, metavar="N", help="default: 8080; 0 is any free port"
    )
    serve.add_argument(
        "--parallel",
        type=positive,
        default=4,
        metavar="N",
        help="answers at once; more requests wait (default: 4)",
    )
