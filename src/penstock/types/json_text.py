"""JSON text to Python values, tolerantly."""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

__all__ = ["decode_json", "decode_object"]


def decode_object(text: bytes) -> dict[str, Any]:
    """Decode a JSON object; TypeError if the JSON is not an object. See `decode_json`."""
    payload = decode_json(text)
    if not isinstance(payload, dict):
        raise TypeError(f"the payload is not a JSON object but {type(payload).__name__}")
    return cast("dict[str, Any]", payload)


def decode_json(text: bytes) -> Any:
    """Decode JSON text; ValueError if it is not JSON.

    Also accepted: lone surrogates, invalid UTF-8, a byte order mark, NaN, numbers of any length.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        import json

        try:
            return json.loads(
                text.decode("utf-8", "replace").removeprefix("\ufeff"),
                # A call for each integer, unless there is none so long.
                parse_int=_integer if re.search(_LONG_NUMBER, text) else None,
            )
        except RecursionError as error:
            raise ValueError("the JSON is nested too deeply") from error


_LONG_NUMBER = rb"[0-9]{641}"


def _integer(digits: str) -> int | float:
    # int() refuses more digits than sys.get_int_max_str_digits().
    return int(digits) if len(digits) <= 640 else float(digits)
