"""Adapt the number of requests in flight to the server's refusals.

Additive increase, multiplicative decrease, as in TCP (RFC 5681, 3.1): at most one cut per
round trip, and growth only while the limit holds requests back.
"""

from __future__ import annotations

__all__ = ["AdaptiveLimit"]


class AdaptiveLimit:
    """A limit between two bounds. A request remembers the `epoch` in which it was sent."""

    __slots__ = ("_successes", "cuts", "limit", "maximum", "minimum")

    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum: int = minimum
        self.maximum: int = maximum
        self.limit: int = maximum
        self.cuts: int = 0
        self._successes: int = 0

    @property
    def epoch(self) -> int:
        """Number that changes with every cut."""
        return self.cuts

    def refused(self, epoch: int, in_flight: int) -> bool:
        """Note that the server refused a request for overload; return whether this cut the limit.

        The answer to a request sent before the last cut says nothing about the present limit
        and is ignored.
        """
        if epoch != self.cuts:
            return False
        self.cuts += 1
        self._successes = 0
        self.limit = max(self.minimum, min(self.limit, in_flight) // 2)
        return True

    def succeeded(self, epoch: int, *, binding: bool) -> None:
        """Note that a request was answered. `binding` says whether the limit held others back."""
        if epoch != self.cuts or not binding:
            return
        self._successes += 1
        if self._successes >= self.limit and self.limit < self.maximum:
            self.limit += 1
            self._successes = 0
