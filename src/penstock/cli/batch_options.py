"""The options of `penstock batch`. Imported for every command: nothing but argparse."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any, NoReturn

from .options import PROVIDERS, above_zero, positive, whole

__all__ = ["add_batch_options", "setting"]


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return seconds


# argparse says "invalid ... value" with this name.
_seconds.__name__ = "number"


def setting(text: str) -> tuple[str, Any]:
    """Return name and value of NAME=JSON; a value that is no JSON is a string."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=JSON")
    try:
        return name, json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return name, value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """Add what `penstock batch` takes, but for `--api-key-env` and `--backend`."""
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="JSON Lines of requests in the form of OpenAI's Batch API, also .gz; - is standard"
        " input",
    )
    parser.add_argument(
        "output", metavar="OUTPUT", help="where answers are appended; - is standard output"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--provider",
        choices=PROVIDERS,
        metavar="NAME",
        help=f"one of {', '.join(PROVIDERS)}; key and URL come from the environment, for instance"
        " OPENAI_API_KEY and OPENAI_BASE_URL (default: openai)",
    )
    where.add_argument(
        "--base-url",
        metavar="URL",
        action="append",
        help="any other server, usually ending in /v1; give it several times to spread the rows",
    )
    what = parser.add_argument_group("what is asked")
    what.add_argument("--model", help="put into every body, over what it has")
    what.add_argument(
        "--set",
        dest="settings",
        metavar="NAME=JSON",
        type=setting,
        action="append",
        default=[],
        help="put into every body, over what it has; a value that is no JSON is a string",
    )
    what.add_argument("--stream", action="store_true", help="stream the completions inside")
    what.add_argument("--limit", type=positive, metavar="N", help="ask N rows at most")

    pace = parser.add_argument_group("pace")
    pace.add_argument(
        "--concurrency", type=positive, default=64, metavar="N",
        help="requests at once at most (default: 64)",
    )  # fmt: skip
    pace.add_argument("--rpm", type=above_zero, metavar="N", help="requests per minute at most")
    pace.add_argument("--tpm", type=above_zero, metavar="N", help="tokens per minute at most")
    pace.add_argument(
        "--no-adaptive", action="store_true", help="do not adapt to what the server bears"
    )

    failures = parser.add_argument_group("failures")
    failures.add_argument(
        "--max-retries", type=whole, default=5, metavar="N",
        help="how often a row is asked again (default: 5)",
    )  # fmt: skip
    failures.add_argument(
        "--on-cut",
        choices=("retry", "fail"),
        default="retry",
        help="what becomes of a row whose answer was cut off (default: retry)",
    )
    failures.add_argument(
        "--timeout", type=above_zero, metavar="SECONDS", help="of one attempt in all"
    )
    failures.add_argument(
        "--patience", type=_seconds, default=300.0, metavar="SECONDS",
        help="stop if the server gives no answer for so long (default: 300)",
    )  # fmt: skip
    failures.add_argument(
        "--grace", type=_seconds, default=20.0, metavar="SECONDS",
        help="on Ctrl-C, wait so long for the rows under way (default: 20)",
    )  # fmt: skip

    files = parser.add_argument_group("files")
    files.add_argument(
        "--errors", metavar="PATH", help="where failed rows go (default: out.errors.jsonl)"
    )
    files.add_argument(
        "--skip-invalid", action="store_true", help="put rows that cannot be asked there, too"
    )
    files.add_argument(
        "--changed",
        choices=("stop", "keep"),
        default="stop",
        help="what to do if an answered row asks something else now (default: stop)",
    )
    files.add_argument("--overwrite", action="store_true", help="begin anew")
    files.add_argument(
        "--ordered", action="store_true", help="sort OUTPUT as INPUT is when all is done"
    )
    files.add_argument("--check", action="store_true", help="only look at the files")
    files.add_argument("--report", metavar="PATH", help="write the figures there, as JSON")

    shown = parser.add_argument_group("progress, on standard error")
    shown.add_argument("--progress", choices=("auto", "bar", "lines", "none"), default="auto")
    shown.add_argument(
        "--progress-every", type=above_zero, default=10.0, metavar="SECONDS",
        help="between lines (default: 10)",
    )  # fmt: skip
