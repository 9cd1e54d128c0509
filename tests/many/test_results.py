from __future__ import annotations

import pickle
from typing import Any

import pytest

import penstock
from penstock._many import results
from penstock._many.results import Result, ResultEvent


def test_results_are_plain_values() -> None:
    result: Result[dict[str, int], int] = Result(0, {"a": 1}, 3, None, 0.0, 1.0)
    assert result == result
    assert "value=3" in repr(result)
    with pytest.raises(AttributeError):
        result.value = 4  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(result)) == result


def test_unwrap_gives_the_value_or_raises_the_error() -> None:
    result: Result[str, int | None] = Result(0, "", None, None, 0.0, 1.0)
    assert result.unwrap() is None
    error = penstock.NotFoundError("gone")
    failed: Result[str, int] = Result(0, "", None, error, 0.0, 1.0)
    with pytest.raises(penstock.NotFoundError) as caught:
        failed.unwrap()
    assert caught.value is error
    with pytest.raises(penstock.NotFoundError):
        ResultEvent(0, {}, None, error, None).unwrap()


@pytest.mark.parametrize("name", ["Result", "ResultEvent"])
def test_there_is_one_class_at_run_time(name: str) -> None:
    made: Any = getattr(penstock, name)
    assert made is getattr(results, name)
    assert isinstance(made, type)
    assert made.__qualname__ == name
