"""What a row may be, and what is sent for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.batch import InvalidRow
from penstock.engines.rows import Rows
from penstock.types import ChatCompletionMessage

USER = {"role": "user", "content": "Hi"}


def body(messages: object, params: Any = None, *, model: str | None = "m", **common: Any) -> Any:
    row = Rows(model, common).row(messages, params)
    assert row.path == "/chat/completions"
    return json.loads(row.body)


class Array:
    """What NumPy makes of a list in a column."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def tolist(self) -> list[Any]:
        return self._items


@dataclass
class Message:
    role: str
    content: str


@pytest.mark.parametrize(
    ("messages", "sent"),
    [
        ("Hi", [USER]),
        ([USER], [USER]),
        ((USER,), [USER]),
        (Array([USER]), [USER]),
        ([Message("user", "Hi")], [USER]),
        ([ChatCompletionMessage(content="Ho")], [{"role": "assistant", "content": "Ho"}]),
        # A column of structs has a null for what a message does not have.
        ([{**USER, "name": None, "tool_calls": None}], [USER]),
        (
            [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}],
            [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}],
        ),
    ],
)
def test_messages(messages: object, sent: object) -> None:
    assert body(messages) == {"model": "m", "messages": sent}


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        (None, "null"),
        (float("nan"), "null"),
        ("", "empty"),
        ([], "empty"),
        (Array([]), "empty"),
        (7, "int"),
        (1.5, "float"),
        (b"Hi", "bytes"),
        ({"role": "user"}, "dict"),
        (object(), "object"),
        ([None], "message 0 .* null"),
        ([USER, "Hi"], "message 1 .* str"),
        ([[USER]], "message 0 .* list"),
        ([{"content": "Hi"}], "message 0 has no role"),
        ([{"role": None, "content": "Hi"}], "message 0 has no role"),
        ([{**USER, "content": float("nan")}], "nan"),
        ([{**USER, "content": object()}], "JSON"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_cannot_be_asked(messages: object, why: str) -> None:
    with pytest.raises(InvalidRow, match=why):
        body(messages)


def test_parameters_of_all_rows_and_of_one() -> None:
    assert body("Hi", temperature=0, seed=1, stream=True) == {
        "model": "m",
        "temperature": 0,
        "seed": 1,
        "messages": [USER],
    }
    params = {"temperature": 1, "model": "n", "stream_options": {}}
    assert body("Hi", params, temperature=0) == {
        "model": "n",
        "temperature": 1,
        "messages": [USER],
    }


def test_the_model_may_be_among_the_parameters() -> None:
    assert json.loads(Rows(None, {"model": "n"}).row("Hi", None).body)["model"] == "n"
    assert json.loads(Rows(None, None).row("Hi", {"model": "n"}).body)["model"] == "n"
    with pytest.raises(InvalidRow, match="no model"):
        Rows(None, None).row("Hi", None)


@pytest.mark.parametrize("params", [{"messages": []}, {"x": float("inf")}, [1], {1: 2}, "abc"])
def test_bad_parameters_of_a_row(params: Any) -> None:
    with pytest.raises(InvalidRow):
        body("Hi", params)


@given(
    st.text().filter(bool),
    st.dictionaries(
        st.text().filter(lambda name: name not in ("messages", "stream", "stream_options")),
        st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.text()),
    ),
)
def test_any_text_and_any_parameters(text: str, params: dict[str, Any]) -> None:
    assert body(text, params) == {
        "model": "m",
        **params,
        "messages": [{"role": "user", "content": text}],
    }
