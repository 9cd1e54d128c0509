"""What goes out is checked before any I/O, and says exactly what the caller said."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.request import checked_headers, checked_key, completion_body
from penstock.types import ChatCompletionMessage, Function, ToolCall

MESSAGES = [{"role": "user", "content": "Hi"}]
SECRET = "sk-secret\n0123456789"


# --- keys ---


@pytest.mark.parametrize(
    "key",
    ["", " ", "a b", SECRET, "sk-secret\r", "sk-secret\x00", "sk-sécret", "sk-\x7f", "\ud800"],
)
def test_a_key_that_could_leave_its_line_is_refused_unseen(key: str) -> None:
    with pytest.raises(ValueError, match="the API key") as caught:
        checked_key(key)
    assert "secret" not in repr(caught.value)


@pytest.mark.parametrize("key", [None, b"sk-secret", 5, ["sk-secret"]])
def test_a_key_is_a_string(key: object) -> None:
    with pytest.raises(TypeError, match="the API key") as caught:
        checked_key(key)
    assert "secret" not in repr(caught.value)


def test_a_key_stays_as_it_is() -> None:
    assert checked_key("sk-Abc_0/+=~!") == "sk-Abc_0/+=~!"


# --- headers ---


def test_headers_keep_their_spelling_and_go_by_their_lower_case_name() -> None:
    assert checked_headers({"X-Title": " a b ", "x-b": "\xe9"}) == {
        "x-title": (b"X-Title", b"a b"),
        "x-b": (b"x-b", b"\xe9"),
    }
    assert checked_headers(None) == checked_headers({}) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("a b", "x"),
        ("a:", "x"),
        ("a\r\nb", "x"),
        ("é", "x"),
        ("x", "a\nb"),
        ("x", "a\r\n"),
        ("x", "secret\x00"),
        ("x", "\x7f"),
        ("x", "€"),
        ("x", None),
        ("x", b"bytes"),
        (b"x", "y"),
        ("Host", "elsewhere.test"),
        ("content-LENGTH", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Upgrade", "h2c"),
    ],
)
def test_headers_that_could_break_the_request_are_refused(name: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="header") as caught:
        checked_headers({name: value})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("headers", [[("a", "b")], "a: b", 5])
def test_headers_are_a_mapping(headers: Any) -> None:
    with pytest.raises(TypeError, match="headers"):
        checked_headers(headers)


# --- bodies ---


def body(model: object = "m", messages: object = MESSAGES, **params: Any) -> Any:
    return json.loads(completion_body(model, messages, params, stream=False))


def test_the_body_holds_what_was_given_and_nothing_else() -> None:
    params = {
        "temperature": 0.1,
        "max_tokens": 5,
        "stop": ["a", "\n"],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "logit_bias": {"50256": -100},
        "nothing": None,
        "vendor": {"nested": [1, 2.5, True, "é\u2028"]},
        "seed": 2**62,
    }
    assert body(**params) == {"model": "m", "messages": MESSAGES, **params, "stream": False}


def test_the_body_says_whether_it_is_to_be_streamed() -> None:
    # Some servers stream unless they are told not to.
    assert body()["stream"] is False
    assert json.loads(completion_body("m", MESSAGES, {}, stream=True))["stream"] is True


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc\u2028é"), inner),
    max_leaves=8,
)


@given(json_values)
def test_any_json_goes_verbatim(value: Any) -> None:
    assert body(extra=value)["extra"] == value


@pytest.mark.parametrize("model", [None, ""])
def test_an_empty_model(model: object) -> None:
    with pytest.raises(ValueError, match="model is empty"):
        body(model)


@pytest.mark.parametrize("model", [5, b"m", ["m"], {"id": "m"}])
def test_a_model_is_a_string(model: object) -> None:
    with pytest.raises(TypeError, match="model must be a string"):
        body(model)


@pytest.mark.parametrize("messages", [None, [], (), iter([])])
def test_empty_messages(messages: object) -> None:
    with pytest.raises(ValueError, match="messages is empty"):
        body("m", messages)


@pytest.mark.parametrize("messages", ["Hi", b"", {"role": "user", "content": "Hi"}, {}, 0, 5])
def test_messages_are_a_list(messages: object) -> None:
    with pytest.raises(TypeError, match="messages must be a list"):
        body("m", messages)


@dataclass
class Said:
    role: str
    content: str


class Put(msgspec.Struct):
    role: str
    content: str


class Dumped:
    def model_dump(self, *, mode: str, exclude_none: bool) -> dict[str, str]:
        assert (mode, exclude_none) == ("json", True)
        return {"role": "user", "content": "dumped"}


def test_messages_in_every_form() -> None:
    class Row(dict[str, str]):
        pass

    messages = (
        message
        for message in [
            {"role": "system", "content": "dict"},
            Said("user", "dataclass"),
            Put("user", "struct"),
            Dumped(),
            MappingProxyType({"role": "user", "content": "mapping"}),
            OrderedDict(role="user", content="ordered"),
            Row(role="user", content="subclass"),
        ]
    )
    assert [message["content"] for message in body("m", messages)["messages"]] == [
        "dict",
        "dataclass",
        "struct",
        "dumped",
        "mapping",
        "ordered",
        "subclass",
    ]


def test_a_real_pydantic_model() -> None:
    pydantic = pytest.importorskip("pydantic")
    message = pydantic.create_model("Message", role=(str, ...), name=(str | None, None))
    assert body("m", [message(role="user")])["messages"] == [{"role": "user"}]


def test_an_answer_goes_back_as_a_message() -> None:
    call = ToolCall(id="call_1", function=Function(name="f", arguments="{}"))
    told = ChatCompletionMessage(content="Hi")
    called = ChatCompletionMessage(tool_calls=[call])
    assert body("m", [told, called])["messages"] == [
        {"role": "assistant", "content": "Hi"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
    ]
