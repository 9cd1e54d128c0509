"""How many tokens a request will cost, and how many it has cost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._policy.estimate import ANSWER, ATTACHMENT, estimated_tokens, used_tokens
from penstock.types import Usage


def chat(content: Any, **params: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **params}


def test_a_quarter_of_the_bytes_and_the_answer_that_is_allowed() -> None:
    text = "word " * 400
    short = estimated_tokens(chat("", max_tokens=10))
    assert estimated_tokens(chat(text, max_tokens=10)) - short == 500
    assert estimated_tokens(chat(text, max_tokens=110)) - short == 600
    assert estimated_tokens(chat("")) - short == ANSWER - 10


@pytest.mark.parametrize("name", ["max_completion_tokens", "max_tokens", "max_output_tokens"])
def test_each_name_of_the_bound_counts_for_each_choice(name: str) -> None:
    one = estimated_tokens(chat("hi", **{name: 300}))
    assert estimated_tokens(chat("hi", n=3, **{name: 300})) == one + 600


def test_text_in_other_scripts_has_more_tokens_a_letter() -> None:
    bare = estimated_tokens(chat(""))
    assert estimated_tokens(chat("水" * 4000)) - bare == 3000


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}},
        {"type": "input_audio", "input_audio": {"data": "A" * 1_000_000, "format": "wav"}},
        {"type": "file", "file": {"file_data": "A" * 1_000_000}},
    ],
)
def test_an_attachment_counts_for_a_fixed_number(part: dict[str, Any]) -> None:
    bare = estimated_tokens(chat([]))
    assert 0 <= estimated_tokens(chat([part])) - bare - ATTACHMENT <= 20


def test_token_ids_are_tokens_and_embeddings_have_no_answer() -> None:
    assert estimated_tokens({"input": list(range(1000))}) == 1000
    assert estimated_tokens({"input": [list(range(1000)), [1, 2]]}) == 1002
    assert estimated_tokens({"prompt": [1, 2, 3]}) == 3 + ANSWER


@pytest.mark.parametrize("odd", [None, "many", True, -1, 0, float("nan"), float("inf"), [], {}])
def test_odd_bounds_count_for_nothing(odd: Any) -> None:
    assert 0 < estimated_tokens(chat("hi", max_tokens=odd, n=odd)) < ANSWER + 10


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
names = st.sampled_from(["messages", "prompt", "n", "max_tokens", "max_completion_tokens"])


@given(st.dictionaries(names | st.text(), json, max_size=6))
def test_any_body_has_an_estimate(request: dict[str, Any]) -> None:
    assert estimated_tokens(request) >= 0


def test_a_body_may_be_nested_deeply() -> None:
    deep: Any = "word"
    for _ in range(100_000):
        deep = [deep]
    assert estimated_tokens({"input": deep}) == 1


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, None),
        ({}, None),
        (Usage(), None),
        (Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7), 7),
        (Usage(prompt_tokens=3, completion_tokens=4), 7),
        ({"total_tokens": 9, "prompt_tokens": 1}, 9),
        ({"input_tokens": 5, "output_tokens": 6}, 11),
        ({"total_tokens": "9"}, None),
        ({"total_tokens": -9}, None),
    ],
)
def test_what_a_usage_says(usage: Any, tokens: int | None) -> None:
    assert used_tokens(usage) == tokens
