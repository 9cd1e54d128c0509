"""How many requests may be in flight, learnt from what the server refuses.

Additive increase, multiplicative decrease, as TCP does it (RFC 5681, 3.1): one cut for
each round trip at most, and growth only where the limit is what holds requests back.
"""

from __future__ import annotations

__all__ = ["AdaptiveLimit"]


class AdaptiveLimit:
    """A limit between two bounds. A request carries the `epoch` in which it was sent."""

    __slots__ = ("_successes", "cuts", "limit", "maximum", "minimum")

    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum: int = minimum
        self.maximum: int = maximum
        self.limit: int = maximum
        self.cuts: int = 0
        self._successes: int = 0

    @property
    def epoch(self) -> int:
        """Changes with every cut."""
        return self.cuts

    def refused(self, epoch: int, in_flight: int) -> bool:
        """The server refused a request for overload; gives whether the limit was cut.

        An answer to a request from before the last cut says nothing about the limit of
        today and is ignored.
        """
        if epoch != self.cuts:
            return False
        self.cuts += 1
        self._successes = 0
        self.limit = max(self.minimum, min(self.limit, in_flight) // 2)
        return True

    def succeeded(self, epoch: int, *, binding: bool) -> None:
        """A request was answered; `binding` says whether the limit held others back."""
        if epoch != self.cuts or not binding:
            return
        self._successes += 1
        if self._successes >= self.limit and self.limit < self.maximum:
            self.limit += 1
            self._successes = 0
