"""Keeps what a server answered out of httpcore's own DEBUG log.

httpcore logs each response's headers, and a server may send the key back in one. Of the
library's requests only the step is logged, without what it brought. Requests that others make with
httpcore are logged as before.
"""

from __future__ import annotations

import inspect
from functools import cache
from types import CodeType
from typing import TYPE_CHECKING

from .._logs import DEBUG

if TYPE_CHECKING:
    import logging

__all__ = ["hide_answers", "httpcore_logs"]

_LOGGERS = ("httpcore.http11", "httpcore2.http11")
_DEPTH = 16  # frames from the logging call to the caller of httpcore; 8 of them are known


def httpcore_logs() -> bool:
    """Return True if httpcore's DEBUG log is on: then it makes every request."""
    first, second = _loggers()
    return first.isEnabledFor(DEBUG) or second.isEnabledFor(DEBUG)


def hide_answers(caller: CodeType) -> None:
    """Install the filter for requests that this function makes. Idempotent."""
    for logger in _loggers():
        if not any(isinstance(each, _WithoutAnswers) for each in logger.filters):
            logger.addFilter(_WithoutAnswers(caller))


@cache
def _loggers() -> list[logging.Logger]:
    import logging  # by now every event loop has; see `penstock._logs`

    return [logging.getLogger(name) for name in _LOGGERS]


class _WithoutAnswers:
    def __init__(self, caller: CodeType) -> None:
        self._caller = caller

    def filter(self, record: logging.LogRecord) -> bool:
        # Only with DEBUG on, so that a request costs nothing more.
        frame = inspect.currentframe()
        for _ in range(_DEPTH):
            if frame is None:
                break
            if frame.f_code is self._caller:
                record.msg, record.args = str(record.msg).partition(" ")[0], ()
                break
            frame = frame.f_back
        return True
