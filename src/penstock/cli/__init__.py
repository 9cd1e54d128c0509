"""The command line: `penstock demo`, `chat`, `models`, `serve` and `batch`.

Nothing heavier than argparse is imported until a command runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .output import OutputError, complain, drop_output, write
from .parser import parser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; errors are one line on stderr."""
    grammar = parser()
    _complete_words(grammar)
    arguments = grammar.parse_args(argv)
    try:
        if arguments.command != "batch":  # it may write to a file alone
            write("")  # before a request is sent: can the answer be written?
        run: Callable[[object], int] = import_module(f".{arguments.command}", __name__).run
        status = run(arguments)
        if arguments.command != "batch":
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


def _complete_words(grammar: object) -> None:
    """Answer a shell that asks for completions of the line, if argcomplete is installed."""
    from os import environ

    if "_ARGCOMPLETE" in environ:
        import_module("argcomplete").autocomplete(grammar)


def _is_users_business(error: Exception) -> bool:
    """Whether the error is about the call, the server or the installation, not a bug."""
    from ..errors import PenstockError
    from .run import UsageError

    return isinstance(error, PenstockError | UsageError)


# Messages name arguments of the client; here they are options.
OPTIONS = {"check base_url": "check --base-url", "(Timeouts.total)": "(--timeout)"}


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    for argument, option in OPTIONS.items():
        text = text.replace(argument, option)
    return text
