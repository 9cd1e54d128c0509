"""Options that commands share, and the types of their values. Imports nothing but argparse."""

from __future__ import annotations

import argparse
import math

__all__ = [
    "PROVIDERS",
    "above_zero",
    "add_backend",
    "add_key",
    "add_server",
    "port",
    "positive",
    "whole",
]

PROVIDERS = (
    "openai", "pareta", "oruel", "tensoras", "groq",
    "openrouter", "deepseek", "ollama", "vllm", "llamacpp",
)  # fmt: skip
"""The names that `penstock.providers` ships, written out so that `--help` need not load it."""


def whole(text: str, least: int = 0) -> int:
    """Return a whole number that is not below `least`."""
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, not {number}")
    return number


def positive(text: str) -> int:
    """Return a whole number above 0."""
    return whole(text, 1)


def port(text: str) -> int:
    """Return the number of a TCP port; 0 is any free one."""
    number = whole(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"must be at most 65535, not {number}")
    return number


def above_zero(text: str) -> float:
    """Return a number above 0."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return number


# argparse says "invalid ... value" with these names.
whole.__name__ = positive.__name__ = port.__name__ = "whole number"
above_zero.__name__ = "number"


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which server is asked."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--provider",
        choices=PROVIDERS,
        metavar="NAME",
        help=f"one of {', '.join(PROVIDERS)}; key and URL come from the environment, for instance"
        " OPENAI_API_KEY and OPENAI_BASE_URL (default: openai)",
    )
    where.add_argument("--base-url", metavar="URL", help="any other server, usually ending in /v1")
    where.add_argument("--local", action="store_true", help="the embedded model of the demo")
    add_key(parser)


def add_key(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the key's variable."""
    parser.add_argument(
        "--api-key-env",
        metavar="VARIABLE",
        help="the environment variable that holds the key for --base-url (default: no key)",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses the event loop."""
    parser.add_argument(
        "--backend",
        choices=("asyncio", "trio", "uvloop"),
        default="asyncio",
        help="the event loop to run on (default: asyncio)",
    )
