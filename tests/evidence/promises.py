"""The promises, as the page names them; a promise's tests have its number in their modules.

0 stands for the scripts that concern many of them at once.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["PROMISES", "label", "modules_of"]

TESTS = Path(__file__).parents[1] / "invariants"

PROMISES = {
    1: "Iteration ends only when the server has finished",
    2: "After `async with` nothing is open",
    3: "A cancelled read loses nothing",
    4: "Nothing survives between two calls of a stream",
    5: "Deadlines: the right error, to the instant",
    6: "No `ExceptionGroup` but one of the body's own",
    7: "Requests in flight and pulled are bounded, and closed on leaving",
    8: "Order, and the window of ordered results",
    9: "A race shows one stream, its losers closed",
    10: "Nothing is sent twice after the first byte of a body",
    11: "`Retry-After` pauses every request of a limiter",
    12: "A forgotten stream warns, and its socket is shut",
    13: "Memory is bounded when nobody reads",
    14: "Bytes after a response's end are never the next answer",
    0: "Many of these at once: any server, any use, held against a model",
}


def label(number: int) -> str:
    """What stands for it in a table."""
    return str(number or "+")


def modules_of(number: int) -> list[Path]:
    """Its test modules."""
    return sorted(TESTS.glob(f"test_p{number:02}_*.py" if number else "test_stateful*.py"))
