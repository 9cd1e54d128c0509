"""A row's messages as the JSON text that is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, cast

from .._wire.encode import encode_json
from ..batch.rows import InvalidRow, Params, Row

__all__ = ["Rows"]

PATH = "/chat/completions"


class Rows:
    """Makes rows of messages: model and parameters are encoded once.

    TypeError or ValueError if they are not a name and JSON values.
    """

    def __init__(self, model: str | None, params: Mapping[str, Any] | None) -> None:
        if model is not None and not isinstance(model, str):
            raise TypeError(f"model must be a string, not {type(model).__name__}")
        if model is not None and not model.strip():
            raise ValueError("model is empty: give the name of a model")
        self._common = _members(params)
        if model is not None:
            self._common = {**_members({"model": model}), **self._common}
        self._spelled = _spelled(self._common)

    def row(self, messages: object, params: Mapping[str, Any] | None) -> Row:
        """Return the row to ask. InvalidRow says why it cannot be asked."""
        try:
            text = encode_json(_listed(messages))
            members, spelled = self._common, self._spelled
            if params:
                members = {**members, **_members(params)}
                spelled = _spelled(members)
        except InvalidRow:
            raise
        except (TypeError, ValueError) as error:
            raise InvalidRow(str(error)) from None
        if "model" not in members:
            raise InvalidRow("no model: give Completions one, or the row's params")
        return Row("", PATH, b'{%b,"messages":%b}' % (spelled, text), "")


def _members(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return JSON text by name."""
    members = Params(params).members
    if "messages" in members:
        raise ValueError("params cannot have messages: they come with each row")
    return dict(members)


def _spelled(members: Mapping[str, Any]) -> bytes:
    """Return members of a JSON object."""
    return encode_json(members)[1:-1]


def _listed(messages: Any) -> list[Any]:
    """Return the messages as a list of objects, without members that are null in a column."""
    if isinstance(messages, str):
        if not messages:
            raise InvalidRow("the prompt is empty")
        return [{"role": "user", "content": messages}]
    if hasattr(messages, "tolist"):
        messages = messages.tolist()  # an array of NumPy's
    if messages is None or (isinstance(messages, float) and math.isnan(messages)):
        raise InvalidRow("messages is null")  # to pandas, NaN is null as well
    if not isinstance(messages, (list, tuple)):
        raise InvalidRow(
            f"messages must be a string or a list of messages, not {type(messages).__name__}"
        )
    given = cast("Sequence[object]", messages)
    if not given:
        raise InvalidRow("messages is empty")
    return [_message(number, message) for number, message in enumerate(given)]


def _message(number: int, message: object) -> object:
    if message is None or type(message) in (str, bytes, int, float, bool, list, tuple):
        kind = "null" if message is None else type(message).__name__
        raise InvalidRow(f"message {number} must be an object with role and content, not {kind}")
    if not _is_mapping(message):
        return message  # an answer's message, or a model of Pydantic's
    # A column of structs has null for what a message does not have.
    found = {
        name: value for name, value in message.items() if value is not None or name == "content"
    }
    if not isinstance(found.get("role"), str) or not found["role"]:
        raise InvalidRow(f"message {number} has no role")
    return found


def _is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)
