"""The headers of one attempt: the key, what observers add, and values that are renewed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from .._http.outgoing import Outgoing

__all__ = ["renewed", "signed"]


def renewed(outgoing: Outgoing, headers: Mapping[bytes, bytes]) -> Outgoing:
    """Return the request with new values of headers, given by their lower-case names."""
    fields = [(name, headers.get(name.lower(), value)) for name, value in outgoing.headers]
    return msgspec.structs.replace(outgoing, headers=fields)


def signed(outgoing: Outgoing, key: str | None, added: Sequence[tuple[bytes, bytes]]) -> Outgoing:
    """Return the request with its API key and these headers, except those it has already."""
    fields = list(added)
    if key is not None:
        fields.append((b"Authorization", b"Bearer " + key.encode("ascii")))
    if not fields:
        return outgoing
    present = {name.lower() for name, _ in outgoing.headers}
    fields = [field for field in fields if field[0].lower() not in present]
    return msgspec.structs.replace(outgoing, headers=[*outgoing.headers, *fields])
