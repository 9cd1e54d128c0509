"""The error of a request that a cassette has no answer to, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import PenstockError
from .matching import nearest

if TYPE_CHECKING:
    from pathlib import Path

    from .script import RecordedRequest
    from .transcript import Exchange

__all__ = ["NotRecordedError", "missing", "used_up"]

_SHOWN = 3  # differences


class NotRecordedError(PenstockError):
    """A `Cassette` has no answer to a request, or cannot write one. It is not sent again."""

    def __init__(
        self,
        message: str = "",
        *,
        request: RecordedRequest | None = None,
        nearest: Exchange | None = None,
        differences: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.request: RecordedRequest | None = request
        """The request without its credentials, or None."""
        self.nearest: Exchange | None = nearest
        """The most similar recording; None if there is none, or if it was used already."""
        self.differences: tuple[str, ...] = tuple(differences)
        """Where the request differs from that one, in words."""


def used_up(sent: RecordedRequest, times: int, path: Path) -> NotRecordedError:
    """Return the error of a request that is made more often than it was recorded."""
    often = "once" if times == 1 else f"{times} times"
    return NotRecordedError(
        f"{sent.method} {sent.target} was recorded {often} in {path}, and is sent once more; "
        "repeat=True repeats the last answer",
        request=sent,
    )


def missing(
    sent: RecordedRequest, recorded: Sequence[tuple[RecordedRequest, Exchange]], path: Path
) -> NotRecordedError:
    """Return the error of a request that was never recorded: it shows the nearest one."""
    what = f"no recording of {sent.method} {sent.target}"
    found = nearest([request for request, _ in recorded], sent)
    if found is None:
        return NotRecordedError(f"{what}: {path} is empty", request=sent)
    number, where = found
    shown = "; ".join(where[:_SHOWN])
    if len(where) > _SHOWN:
        shown += f"; and {len(where) - _SHOWN} more differences"
    return NotRecordedError(
        f"{what} in {path}; compared with the nearest, number {number + 1} of {len(recorded)}: "
        + (shown or "no difference, but `match` finds one"),
        request=sent,
        nearest=recorded[number][1],
        differences=where,
    )
