"""Answers as a column of Arrow's, of one type whatever they are.

A type that was inferred from a block in which all rows failed, or none, would not be that of the
next block.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from .answers import Answer

__all__ = ["FIELDS", "answer_array", "answer_type", "engine"]

FIELDS: dict[str, str] = {
    "text": "string",
    "error": "string",
    "message": "string",
    "status_code": "int64",
    "finish_reason": "string",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "requests": "int64",
    "body": "string",
}
"""The members of an answer and their types, by names that pyarrow and Daft share."""


def engine(name: str, extra: str) -> Any:
    """Import a module of an engine; ImportError says which extra has it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f'{name} is not here: pip install "penstock[{extra}]"') from error


def answer_type() -> Any:
    """Return the type of a column of answers."""
    pa = import_module("pyarrow")
    return pa.struct([pa.field(name, getattr(pa, kind)()) for name, kind in FIELDS.items()])


def answer_array(answers: Sequence[Answer]) -> Any:
    """Return a column of answers."""
    pa = import_module("pyarrow")
    members: list[dict[str, Any]] = [dict(answer) for answer in answers]
    kind = answer_type()
    return pa.StructArray.from_arrays(
        [pa.array([each[field.name] for each in members], field.type) for field in kind],
        fields=list(kind),
    )
