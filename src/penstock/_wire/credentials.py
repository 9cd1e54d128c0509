"""What of a request is a credential, and how to cover it where a server's answer repeats it."""

from __future__ import annotations

import html
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable

__all__ = ["SHORTEST_SECRET", "cover_all", "header_secrets", "names_a_credential"]

# Below this length a "key" (local servers take any word) would turn up in innocent text.
SHORTEST_SECRET = 8

# Whatever a server or a gateway calls the header: authorization, x-api-key, cf-access-token ...
_NAME = re.compile(r"auth|cookie|credential|key|password|secret|signature|token", re.IGNORECASE)


def names_a_credential(header: bytes) -> bool:
    """Whether a header of this name holds a credential, as far as a name tells."""
    return _NAME.search(header.decode("latin-1")) is not None


def header_secrets(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """What these headers of a request hold that nobody else may see."""
    values = [value.decode("latin-1") for name, value in headers if names_a_credential(name)]
    # Behind a scheme, as in "Bearer sk-...", the secret comes back without it.
    return values + [value.rpartition(" ")[2] for value in values]


def cover_all(
    secrets: Iterable[str | None], stand_in: Callable[[str], str]
) -> Callable[[str], str] | None:
    """Return a function that puts `stand_in(found)` in the place of each secret in a text.

    None where there is nothing to look for; short secrets are not looked for.
    """
    found = {secret for secret in secrets if secret is not None and len(secret) >= SHORTEST_SECRET}
    # One may be a part of another: the whole comes first.
    covers = [_cover(secret, stand_in) for secret in sorted(found, key=len, reverse=True)]

    def cover(text: str) -> str:
        for each in covers:
            text = each(text)
        return text

    return cover if covers else None


def _cover(key: str, stand_in: Callable[[str], str]) -> Callable[[str], str]:
    """Covers the key as text, JSON, HTML, Python or an address spells it, or what a cut left."""
    in_json = json.dumps(key)[1:-1]
    spellings = {
        key,
        in_json,
        in_json.replace("/", "\\/"),
        # As Python shows text and bytes that have both kinds of quotes.
        key.replace("\\", "\\\\").replace("'", "\\'"),
        html.escape(key),
        urllib.parse.quote(key, safe=""),
    }
    # Backwards, so that none comes after its own beginning: "a&" after "a&amp;".
    whole = "|".join(map(re.escape, sorted(spellings, reverse=True)))
    # Names of headers come in lower case.
    pattern = re.compile(f"({whole})|{re.escape(key[:SHORTEST_SECRET])}", re.IGNORECASE)
    lower = key.lower()

    def cover(text: str) -> str:
        pieces: list[str] = []
        done = position = 0
        while match := pattern.search(text, position):
            start = match.start()
            end = match.end() if match[1] else _cut(text, start, lower)
            if end:
                pieces += (text[done:start], stand_in(text[start:end]))
                done = end
            # What is no cut may have the key begin in the middle of it.
            position = end or start + 1
        return "".join(pieces) + text[done:] if pieces else text

    return cover


def _cut(text: str, start: int, key: str) -> int:
    """Where an excerpt that begins here ends inside of the key; 0 when it is none.

    Looks at as many characters as the key has: many keys begin alike, and a text may be full
    of that beginning.
    """
    last = start + len(key)
    end = text.find("...", start + SHORTEST_SECRET, last + 3)
    if end < 0:
        end = len(text)
    return end if end <= last and key.startswith(text[start:end].lower()) else 0
