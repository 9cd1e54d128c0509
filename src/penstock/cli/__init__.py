"""The command line: `penstock demo`, `penstock chat` and `penstock batch`.

Nothing heavier than argparse is imported until a subcommand runs.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .._version import __version__
from .batch_options import PROVIDERS, add_batch_options, positive
from .output import OutputError, complain, drop_output, write

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; errors are one line on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "batch":  # it has exit statuses of its own
            from .batch import run as run_batch

            return run_batch(arguments)
        write("")  # before a request is sent: can the answer be written?
        if arguments.command == "demo":
            from .demo import run
        else:
            from .chat import run
        status = run(arguments)
        write("")  # all of it, while an error can still be reported
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output left: `penstock chat ... | head`
        drop_output()
        return 1
    except OutputError as error:
        drop_output()
        complain(f"penstock: {error}")
        return 1
    except Exception as error:
        if not _is_users_business(error):
            raise
        complain(f"penstock: {_one_line(error)}")
        return 1


def _is_users_business(error: Exception) -> bool:
    """Whether the error is about the call, the server or the installation, not a bug."""
    from ..errors import PenstockError
    from .run import UsageError

    return isinstance(error, PenstockError | UsageError)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="penstock",
        description="Streams from OpenAI-compatible servers, in the terminal.",
    )
    parser.add_argument("--version", action="version", version=f"penstock {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="watch several completions of a real model stream at once",
        description="Start a small language model on this machine, send it several prompts at"
        " once and show the answers as they grow. Needs no key and no account.",
    )
    demo.add_argument("--streams", type=positive, default=6, metavar="N", help="default: 6")
    demo.add_argument("--max-tokens", type=positive, default=120, metavar="N", help="default: 120")
    demo.add_argument(
        "--base-url", metavar="URL", help="another server in place of the embedded one"
    )
    demo.add_argument("--model", help="the model to use; needed if the server has several")
    _add_key(demo)
    _add_backend(demo)

    chat = commands.add_parser(
        "chat",
        help="stream one completion to the terminal",
        description="Send one prompt and stream the answer to standard output.",
    )
    chat.add_argument("prompt", help="the prompt, or - to read it from standard input")
    where = chat.add_mutually_exclusive_group()
    where.add_argument(
        "--provider",
        choices=PROVIDERS,
        metavar="NAME",
        help=f"one of {', '.join(PROVIDERS)}; key and URL come from the environment, for instance"
        " OPENAI_API_KEY and OPENAI_BASE_URL (default: openai)",
    )
    where.add_argument("--base-url", metavar="URL", help="any other server, usually ending in /v1")
    where.add_argument("--local", action="store_true", help="the embedded model of the demo")
    chat.add_argument("--model", help="the model to use; needed if the server has several")
    chat.add_argument("--system", metavar="TEXT", help="the system prompt")
    chat.add_argument("--max-tokens", type=positive, metavar="N")
    chat.add_argument("--temperature", type=float, metavar="T")
    _add_key(chat)
    _add_backend(chat)

    batch = commands.add_parser(
        "batch",
        help="process a file of prompts",
        description="Ask every row of INPUT that has no answer in OUTPUT yet, and append the"
        " answers. To finish a job, run the same command until it exits with 0.",
    )
    add_batch_options(batch)
    _add_key(batch)
    _add_backend(batch)
    return parser


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--api-key-env",
        metavar="VARIABLE",
        help="the environment variable that holds the key for --base-url (default: no key)",
    )


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        choices=("asyncio", "trio", "uvloop"),
        default="asyncio",
        help="the event loop to run on (default: asyncio)",
    )
