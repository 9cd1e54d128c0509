"""Messages in the form of the conventions, whatever the messages are."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock import ChatCompletion
from penstock.otel.content import input_attributes, output_attributes
from penstock.testing.replies import completion

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image_url"}]},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Hm.",
        "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "42"},
]


def test_each_kind_of_message() -> None:
    attributes = input_attributes({"messages": MESSAGES, "tools": [{"type": "function"}]})
    assert json.loads(attributes["gen_ai.tool.definitions"]) == [{"type": "function"}]
    assert json.loads(attributes["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {
            "role": "user",
            "parts": [{"type": "text", "content": "Look:"}, {"type": "image_url"}],
        },
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm."},
                {"type": "tool_call", "id": "c1", "name": "f", "arguments": "{}"},
            ],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}],
        },
    ]


def test_a_prompt_and_an_answer() -> None:
    asked = json.loads(input_attributes({"prompt": "Once"})["gen_ai.input.messages"])
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": "Once"}]}]
    answer = msgspec.convert(completion("Hello"), ChatCompletion)
    said = json.loads(output_attributes(answer)["gen_ai.output.messages"])
    assert said == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "Hello"}],
            "finish_reason": "stop",
        }
    ]
    assert output_attributes(None) == {}


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
ODD = st.dictionaries(
    st.sampled_from(["role", "content", "tool_calls", "reasoning", "tool_call_id"]), JSON
)


@given(body=JSON | st.fixed_dictionaries({"messages": st.lists(JSON | ODD, max_size=3)}))
def test_odd_messages_are_no_error(body: Any) -> None:
    for value in input_attributes(body).values():
        json.loads(value)
