"""The promises, as the page names them; a promise's tests have its number in their modules."""

from __future__ import annotations

__all__ = ["PROMISES"]

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
}
