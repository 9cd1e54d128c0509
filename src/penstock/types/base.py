"""What all responses and their parts have in common: members without a field, and the payload."""

from __future__ import annotations

from typing import Any, Self, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from .._typed.members import EXTRA, RAW, flattened, is_list, is_object, set_aside, shape_of
from ..headers import Headers, request_id
from .json_text import decode_object

__all__ = ["Answer", "Part", "Payload", "list_of", "part_of"]


class Part(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, repr_omit_defaults=True):
    """Base of every part of a response: typed attributes, and the members without one.

    Unknown members are refused, so that the decoder notices them at no cost where there are
    none; it then moves them to `extra`.
    """

    extra: dict[str, Any] | UnsetType = msgspec.field(default=UNSET, name=EXTRA)
    """Members of this object without a field of their own, as parsed JSON; UNSET if none."""

    def to_dict(self) -> dict[str, Any]:
        """Return this part as a server sends it: its fields and its other members.

        Each call returns a new dict of plain JSON values.
        """
        plain: dict[str, Any] = flattened(msgspec.to_builtins(self))
        return plain

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def __contains__(self, key: Any) -> bool:
        return isinstance(key, str) and key in self.to_dict()


class Payload(Part, kw_only=True):
    """Base of responses: typed attributes beside the payload as the server sent it."""

    # Bytes, decoded only on demand.
    raw: bytes | None = msgspec.field(default=None, name=RAW)
    """JSON text this was decoded from; None for an answer assembled from chunks."""

    def to_dict(self) -> dict[str, Any]:
        """Return the payload as the server sent it, decoded anew on each call.

        An answer assembled from chunks has no single payload; it returns its fields and its
        other members in the shape of a `chat.completion` object. Raises ValueError if the
        payload is nested more deeply than the stack allows (about 1000 levels in all); `raw`
        has the text.
        """
        return super().to_dict() if self.raw is None else decode_object(self.raw)

    def __repr__(self) -> str:
        shown = (
            f"{name}={value!r}"
            for name in self.__struct_fields__
            if name != "raw" and (value := getattr(self, name)) is not None and value is not UNSET
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class Answer(Payload, kw_only=True, dict=True):
    """Base of whole answers, which know the response they came in."""

    # In __dict__ and not fields, so that they are no part of the answer: neither in `to_dict()`
    # and `repr` nor compared.

    @property
    def headers(self) -> Headers:
        """Headers of the response; empty for an answer made by hand or taken from `partial`."""
        headers: Headers = vars(self).get("headers") or Headers()
        return headers

    @property
    def request_id(self) -> str | None:
        """The server's id of the request; None if it gave none, or there are no headers."""
        return request_id(self.headers)

    def __copy__(self) -> Self:
        copied = msgspec.structs.replace(self)
        vars(copied).update(vars(self))
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        made: tuple[Any, ...] = super().__reduce__()  # type: ignore[assignment]
        return (*made, vars(self).copy() or None)


P = TypeVar("P", bound=Part)


def part_of(kind: type[P], extra: dict[str, Any] | UnsetType, name: str) -> P | None:
    """Return a member of `extra` as a part; None if there is none that fits."""
    value: Any = extra.get(name) if extra else None
    if not is_object(value):
        return None
    payload = value.copy()
    set_aside(payload, shape_of(kind))
    try:
        return msgspec.convert(payload, kind)
    except msgspec.ValidationError:
        return None


def list_of(extra: dict[str, Any] | UnsetType, name: str) -> list[Any] | None:
    """Return a member without a field that is a list; None if it is not there."""
    value: Any = extra.get(name) if extra else None
    return value if is_list(value) else None
