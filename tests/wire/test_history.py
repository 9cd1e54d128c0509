from __future__ import annotations

import json
from typing import Any

import pytest

from penstock._wire.encode import encode_json
from penstock._wire.history import outgoing_messages, provider_at
from penstock._wire.request import completion_body
from penstock.types import ChatCompletionMessage, Function, ToolCall

MESSAGE = ChatCompletionMessage(content="4", reasoning_field="Hm", extra={"vendor": {"x": [1]}})
CALL = ToolCall(
    id="a", function=Function("f", "{}"), extra={"extra_content": {"thought_signature": "SIG"}}
)


@pytest.mark.parametrize(
    ("host", "name", "provider"),
    [
        ("api.groq.com", "openai", "groq"),
        ("API.Cerebras.ai", None, "cerebras"),
        ("openrouter.ai", "x", "openrouter"),
        ("api.deepseek.com", None, "deepseek"),
        ("localhost", "groq", "groq"),
        ("localhost", None, None),
    ],
)
def test_the_host_says_more_than_the_name(
    host: str, name: str | None, provider: str | None
) -> None:
    assert provider_at(host, name) == provider


def test_messages_of_answers_go_out_as_the_provider_wants_them() -> None:
    mine = {"role": "user", "content": "x", "reasoning": "y"}
    assert outgoing_messages([mine, MESSAGE], "groq") == [
        mine,
        {"role": "assistant", "content": "4", "vendor": {"x": [1]}},
    ]


@pytest.mark.parametrize(("provider", "reasoning"), [("groq", {}), (None, {"reasoning": "Hm"})])
def test_in_the_body_of_a_request(provider: str | None, reasoning: dict[str, str]) -> None:
    body = completion_body("m", [MESSAGE], {}, stream=False, provider=provider)
    [message] = json.loads(body)["messages"]
    assert message == {"role": "assistant", "content": "4", "vendor": {"x": [1]}, **reasoning}


@pytest.mark.parametrize(
    "put", [lambda call: call, lambda call: (call,), lambda call: {"deep": [{"calls": [call]}]}]
)
def test_anywhere_in_a_request(put: Any) -> None:
    call = {
        "id": "a",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"thought_signature": "SIG"},
    }
    assert json.loads(encode_json({"x": put(CALL)})) == json.loads(encode_json({"x": put(call)}))


def test_text_that_looks_like_members_set_aside_stays_text() -> None:
    text = 'say "penstock.extra": {"a":1}'
    assert json.loads(encode_json({"content": text})) == {"content": text}
    assert json.loads(encode_json([text, MESSAGE]))[0] == text
