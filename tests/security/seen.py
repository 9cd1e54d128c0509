"""All that a person, a log, a crash reporter or another process gets to see."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from collections.abc import Iterator
from types import FrameType

import penstock

OWN = frozenset(("penstock", "httpcore", "httpcore2", "h11", "socksio"))


def all_of(error: BaseException) -> str:
    """An error, its copies, its attributes, its whole chain and its traceback."""
    seen: list[str] = []
    for link in chain(error):
        seen += [repr(link), str(link), repr(link.args), repr(vars(link))]
        seen.append(repr(getattr(link, "object", None)))  # of a UnicodeError, which is no variable
    for twin in (error, copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        seen += [repr(twin), str(twin), repr(vars(twin)), *traceback.format_exception(twin)]
    seen.append(pickle.dumps(error).decode("latin-1"))
    return "\n".join(seen)


def variables_of(error: BaseException) -> str:
    """The local variables of the library and what it stands on, as crash reporters show them."""
    shown: list[str] = []
    for link in chain(error):
        for frame in frames(link):
            if frame.f_globals.get("__name__", "").partition(".")[0] in OWN:
                where = f"{frame.f_code.co_qualname}: "
                shown += [
                    f"{where}{name} = {picture(value)}" for name, value in frame.f_locals.items()
                ]
    return "\n".join(shown)


def log_of(records: list[logging.LogRecord], prefix: str = "") -> str:
    formatter = logging.Formatter()
    return "\n".join(formatter.format(r) for r in records if r.name.startswith(prefix))


def chain(error: BaseException) -> Iterator[BaseException]:
    links: list[BaseException | None] = [error]
    seen: set[int] = set()
    while links:
        link = links.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            links += [link.__cause__, link.__context__]
            if isinstance(link, penstock.AllAttemptsFailed):
                links += link.errors
            yield link


def frames(error: BaseException) -> Iterator[FrameType]:
    for frame, _ in traceback.walk_tb(error.__traceback__):
        yield frame


def picture(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - half-made objects of others
        return type(error).__name__
