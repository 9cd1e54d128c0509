"""Decode a model's JSON text into a caller's type.

The type is one that msgspec decodes, or a Pydantic model, which is recognised by its methods:
Pydantic is neither needed nor imported. msgspec is strict: "1" is not an int. A Pydantic model
keeps its own rules.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Protocol, TypeGuard

import msgspec

__all__ = ["Model", "decode_as", "is_model", "is_value", "name_of"]

_LONGEST = 300  # characters of an error message
_FURTHER = r"For further information visit \S+"


class Model(Protocol):
    """The methods of a Pydantic model class that are used here."""

    __name__: str

    def model_json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the model."""
        ...

    def model_validate_json(self, json_data: str | bytes) -> Any:
        """Return a value from JSON text. ValueError says what is wrong with it."""
        ...


def is_model(kind: object) -> TypeGuard[Model]:
    """Return whether this is the class of a Pydantic model."""
    return (
        isinstance(kind, type)
        and hasattr(kind, "model_json_schema")
        and hasattr(kind, "model_validate_json")
    )


def is_value(thing: object) -> bool:
    """Return whether this is a value to send as JSON, and not a type to decode into."""
    if isinstance(thing, type):
        return False
    return (
        thing is None
        or isinstance(thing, msgspec.Struct)
        or dataclasses.is_dataclass(thing)
        or hasattr(thing, "model_dump")
    )


def name_of(kind: object) -> str:
    """Return the type's name for messages."""
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def decode_as(kind: Any, text: str) -> Any:
    """Decode JSON text into a value of this type.

    ValueError says in one line why the text is not valid; TypeError that nothing can be
    decoded into such a type.
    """
    try:
        if is_model(kind):
            return kind.model_validate_json(text)
        return _decoder(kind).decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(_in_one_line(error)) from error
    except NotImplementedError as error:
        raise TypeError(f"no answer can be decoded into {name_of(kind)}: {error}") from error


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    try:
        return msgspec.json.Decoder(kind, dec_hook=_further)
    except (TypeError, NameError) as error:
        raise TypeError(f"no answer can be decoded into {name_of(kind)}: {error}") from error


def _further(kind: Any, value: Any) -> Any:
    if is_model(kind):
        return kind.model_validate_json(msgspec.json.encode(value))
    # Not a TypeError, which msgspec would take for one about the value.
    raise NotImplementedError(f"type {name_of(kind)} is not supported")


def _in_one_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        return "the text contains a lone surrogate"
    # Pydantic's have one line per problem, and a line with a link.
    reason = " ".join(re.sub(_FURTHER, "", str(error)).split())
    return reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}..."
