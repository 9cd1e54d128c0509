"""Values to JSON text, as a request sends them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

import msgspec

from penstock._typed.members import EXTRA, flattened

from .json_values import is_object

__all__ = ["encode_json"]


def encode_json(value: object) -> bytes:
    """Return the JSON text of a value.

    Mappings, dataclasses, msgspec Structs and Pydantic models become objects, and so does a
    value with a method `for_json` (simplejson's convention), for instance a `penstock.Tool`.
    Subclasses of str, int and float are written as their base class.

    TypeError if a part of the value cannot be written as JSON. ValueError for NaN, infinity (the
    message says where it is), a lone surrogate, and a value that is nested too deeply.
    """
    try:
        encoded = _encoder.encode(value)
    except TypeError as error:
        raise TypeError(f"the request cannot be written as JSON: {error}") from None
    except RecursionError:
        raise ValueError("the request is nested too deeply, or contains itself") from None
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the request contains a lone surrogate ({error.reason}): it is not valid Unicode"
        ) from None
    if _SET_ASIDE in encoded:
        encoded = _with_members_in_place(encoded)
    # msgspec writes null for NaN and infinity, or "nan" as a key, so only such a text is examined.
    if _has_sign(encoded) and not _is_plain(value):
        found = list(_non_finite(msgspec.to_builtins(value, enc_hook=_searched)))
        written = json.loads(encoded) if found else None
        for path, number in found:
            if _is_written(written, path):
                continue
            place = ".".join(path) or "the request"
            raise ValueError(f"{place} is {number!r}, which JSON cannot express")
    return encoded


def _has_sign(encoded: bytes) -> bool:
    # Not by a generator, which takes as long as all of the encoding (2 % of a whole answer).
    return b"null" in encoded or b'nan":' in encoded or b'inf":' in encoded


# What precedes the members of a part of an answer that have no field.
_SET_ASIDE = b'"%b":' % EXTRA.encode("ascii")


def _with_members_in_place(encoded: bytes) -> bytes:
    try:
        return _encoder.encode(flattened(msgspec.json.decode(encoded)))
    except RecursionError:
        raise ValueError("the request is nested too deeply") from None


def _further(value: Any) -> Any:
    # The plain value, even if a subclass has its own __str__, as json.dumps writes it.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return int.__int__(value)
    # Recognised by the method, so that Pydantic is neither needed nor imported.
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True)
    if _is_mapping(value):
        return dict(value)
    if hasattr(value, "for_json"):
        return value.for_json()
    raise TypeError(f"objects of type {type(value).__name__} are not supported")


def _searched(value: Any) -> Any:
    # JSON text that the caller wrote is sent as it is.
    if isinstance(value, msgspec.Raw):
        return None
    if hasattr(value, "model_dump"):
        # As it is: as JSON, Pydantic writes None for such a number in a field of type Any.
        return value.model_dump(exclude_none=True)
    try:
        return _further(value)
    except TypeError:  # in a Pydantic model, which knows how to write it
        return None


def _is_written(value: Any, path: list[str]) -> bool:
    """Return whether there is something other than null, as a model may write such a number."""
    try:
        for step in path:
            value = value[step] if is_object(value) else value[int(step)]
    except (KeyError, IndexError, TypeError, ValueError):
        return False
    return value is not None


def _is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_plain(value: Any) -> bool:
    """Return True if there are only finite numbers, in lists and dicts: the usual case, fast."""
    if type(value) not in (dict, list):
        return False
    ahead: list[Any] = [value]
    while ahead:
        outer = ahead.pop()
        inner: object
        if is_object(outer):
            keys: Iterable[object] = outer
            if any(isinstance(key, float) for key in keys):
                return False
            outer = outer.values()
        for inner in outer:
            kind = type(inner)
            if kind is dict or kind is list:
                ahead.append(inner)
            elif kind not in _LEAVES and not (isinstance(inner, float) and math.isfinite(inner)):
                return False
    return True


_LEAVES = frozenset((str, int, bool, type(None)))

# What `msgspec.to_builtins` returns and may be, or contain, such a number.
_EXAMINED = (float, dict, list, tuple, set, frozenset)


def _non_finite(value: Any) -> Iterator[tuple[list[str], float]]:
    """Yield each NaN and infinity with its path, in no particular order."""
    ahead: list[tuple[list[str], Any]] = [([], value)] if isinstance(value, _EXAMINED) else []
    while ahead:
        path, value = ahead.pop()
        if isinstance(value, float):
            if not math.isfinite(value):
                yield path, value
            continue
        if is_object(value):
            keys: Iterable[object] = value
            for key in keys:
                if isinstance(key, float) and not math.isfinite(key):
                    yield [*path, "(key)"], key
        steps = value.items() if is_object(value) else enumerate(value)
        ahead += [
            ([*path, str(step)], inner) for step, inner in steps if isinstance(inner, _EXAMINED)
        ]


_encoder = msgspec.json.Encoder(enc_hook=_further)
