"""Answers are a column of one type, whatever they are."""

from __future__ import annotations

import pyarrow as pa
import pytest

from penstock.batch import Failure
from penstock.engines.answers import Answer, failed
from penstock.engines.columns import FIELDS, answer_array, answer_type, engine

from .support import TYPES, checked

ANSWER: Answer = {
    "text": "Hello",
    "error": None,
    "message": None,
    "status_code": 200,
    "finish_reason": "stop",
    "prompt_tokens": 5,
    "completion_tokens": 2,
    "requests": 1,
    "body": None,
}
FAILED = failed(Failure("connection", "refused"))


def test_the_members_are_those_of_an_answer() -> None:
    assert list(FIELDS) == list(Answer.__annotations__) == list(TYPES)
    assert {name: {"string": str, "int64": int}[kind] for name, kind in FIELDS.items()} == TYPES


@pytest.mark.parametrize("answers", [[], [ANSWER], [FAILED], [FAILED] * 3, [ANSWER, FAILED]])
def test_a_column_has_one_type(answers: list[Answer]) -> None:
    column = answer_array(answers)
    assert column.type == answer_type()
    assert column.to_pylist() == [dict(checked(answer)) for answer in answers]
    assert column.null_count == 0
    assert {field.name: str(field.type) for field in column.type} == FIELDS
    assert pa.types.is_struct(column.type)


def test_an_engine_that_is_not_here() -> None:
    with pytest.raises(ImportError, match=r'pip install "penstock\[ray\]"'):
        engine("no_such_engine", "ray")
