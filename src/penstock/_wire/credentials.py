"""Find the credentials in a request, and mask them where a server's answer repeats them."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, ParamSpec, TypeVar

__all__ = [
    "SHORTEST_SECRET",
    "cover_all",
    "forget_variables",
    "header_secrets",
    "hides_arguments",
    "names_a_credential",
    "shown_target",
    "target_secrets",
]

P = ParamSpec("P")
R = TypeVar("R")

# A shorter "key" (local servers accept any word) would match ordinary text.
SHORTEST_SECRET = 8

# For any server or gateway: authorization, x-api-key, cf-access-token ...
_NAME = re.compile(r"auth|cookie|credential|key|password|secret|signature|token", re.IGNORECASE)


# In a URL also Azure's shared access signature and the key of its functions.
_PARAMETER = f"(?i){_NAME.pattern}|^sig$|^code$"


# As `html.escape` writes them; that module is a large import.
_IN_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


def names_a_credential(header: bytes) -> bool:
    """Return whether a header with this name holds a credential, judging by the name."""
    return _NAME.search(header.decode("latin-1")) is not None


def header_secrets(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Return the credentials in these headers of a request."""
    values = [value.decode("latin-1") for name, value in headers if names_a_credential(name)]
    # Of "Bearer sk-..." also the part after the scheme, which may come back alone.
    return values + [value.rpartition(" ")[2] for value in values]


def target_secrets(target: str) -> list[str]:
    """Return the credentials in the query of a request's target."""
    parameters = urllib.parse.parse_qsl(target.partition("?")[2])
    return [value for name, value in parameters if re.search(_PARAMETER, name)]


def shown_target(target: str, stand_in: str = "...") -> str:
    """Return a request's target, `stand_in` for the values of credentials in its query."""
    path, mark, query = target.partition("?")
    shown: list[str] = []
    for part in query.split("&"):
        name, equals, _ = part.partition("=")
        secret = equals and re.search(_PARAMETER, urllib.parse.unquote(name))
        shown.append(f"{name}={stand_in}" if secret else part)
    return path + mark + "&".join(shown)


def forget_variables(error: BaseException) -> None:
    """Clear the local variables of the library's functions that an error was raised through.

    Tools that report crashes show them, and a key, a password or a whole request may be among
    them. Functions that are still running keep theirs, and a caller's frames are left alone.
    """
    ahead: list[BaseException | None] = [error]
    seen: set[int] = set()
    while ahead:
        link = ahead.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        entry = link.__traceback__
        if link is not error and entry is not None and not _is_own(entry.tb_frame):
            # What the caller was handling when it made the call: its frames may be suspended.
            continue
        while entry is not None:
            if _is_own(entry.tb_frame):
                # RuntimeError: it is still running.
                with contextlib.suppress(RuntimeError):
                    entry.tb_frame.clear()
            entry = entry.tb_next
        ahead += [link.__cause__, link.__context__]


# The library, and what it calls with secrets among the arguments.
_OWN = frozenset(("penstock", "httpcore", "httpcore2", "h11", "socksio"))


def _is_own(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] in _OWN


def hides_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function, also an async one, whose arguments may be secret.

    What it raises passes no frame whose local variables show them.
    """
    if inspect.iscoroutinefunction(function):
        awaited: Any = function

        @functools.wraps(awaited)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            try:
                return await awaited(*args, **kwargs)
            except Exception as error:
                forget_variables(error)
                del args, kwargs
                raise

        hidden: Any = call_async
        decorated: Callable[P, R] = hidden
        return decorated

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            forget_variables(error)
            del args, kwargs
            raise

    return call


def cover_all(
    secrets: Iterable[str | None], stand_in: Callable[[str], str]
) -> Callable[[str], str] | None:
    """Return a function that replaces each secret in a text by `stand_in(found)`.

    None if there are no secrets. Secrets shorter than SHORTEST_SECRET are ignored.
    """
    found = {secret for secret in secrets if secret is not None and len(secret) >= SHORTEST_SECRET}
    # Longest first: one may be a part of another.
    covers = [_cover(secret, stand_in) for secret in sorted(found, key=len, reverse=True)]

    def cover(text: str) -> str:
        for each in covers:
            text = each(text)
        return text

    return cover if covers else None


def _cover(key: str, stand_in: Callable[[str], str]) -> Callable[[str], str]:
    """Mask the key as spelt in text, JSON, HTML, Python or URLs, also where it is cut off."""
    in_json = json.dumps(key)[1:-1]
    spellings = {
        key,
        in_json,
        in_json.replace("/", "\\/"),
        # As in the repr of text or bytes with both kinds of quotes.
        key.replace("\\", "\\\\").replace("'", "\\'"),
        key.translate(_IN_HTML),
        urllib.parse.quote(key, safe=""),
    }
    # In reverse order, so that "a&amp;" comes before its prefix "a&".
    whole = "|".join(map(re.escape, sorted(spellings, reverse=True)))
    # IGNORECASE, because names of headers come in lower case.
    pattern = re.compile(f"({whole})|{re.escape(key[:SHORTEST_SECRET])}", re.IGNORECASE)
    lower = [spelling.lower() for spelling in spellings]

    def cover(text: str) -> str:
        pieces: list[str] = []
        done = position = 0
        while match := pattern.search(text, position):
            start = match.start()
            end = match.end() if match[1] else _cut(text, start, lower)
            if end:
                pieces += (text[done:start], stand_in(text[start:end]))
                done = end
            # If this is not a cut key, the key may begin inside of it.
            position = end or start + 1
        return "".join(pieces) + text[done:] if pieces else text

    return cover


def _cut(text: str, start: int, spellings: list[str]) -> int:
    """Return the end of a cut-off key that begins here; 0 if there is none.

    Looks at no more characters than the key has: many keys begin alike, and a text may repeat
    that beginning many times.
    """
    last = start + max(map(len, spellings))
    end = text.find("...", start + SHORTEST_SECRET, last + 3)
    if end < 0:
        end = len(text)
    if end > last:
        return 0
    found = text[start:end].lower()
    return end if any(spelling.startswith(found) for spelling in spellings) else 0
