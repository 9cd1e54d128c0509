"""Bodies that are read as a whole: the answer, or the error that they report."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from penstock._wire import whole_answer
from penstock._wire.whole_answer import (
    WholeAnswer,
    completion_of,
    models_of,
    text_completion_of,
)
from penstock.errors import APIResponseError, IncompleteStreamError, PenstockError, StreamError

Read = Callable[[bytes], Any]

CHAT = {"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}
TEXT = {"choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]}
MODELS = {"object": "list", "data": [{"id": "Hi"}]}

READERS: dict[str, tuple[Read, dict[str, Any]]] = {
    "chat": (completion_of, CHAT),
    "text": (text_completion_of, TEXT),
    "models": (models_of, MODELS),
}


def encode(payload: Any) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def event(payload: Any) -> bytes:
    return b"data: " + encode(payload) + b"\n\n"


def said(answer: Any) -> str:
    if hasattr(answer, "data"):
        return "".join(model.id for model in answer)
    choice = answer.choices[0]
    return str(choice.text if hasattr(choice, "text") else choice.message.content)


class TestCollecting:
    def test_in_any_pieces(self) -> None:
        answer = WholeAnswer(bytes.decode)
        for piece in (b"a", b"", b"bc"):
            assert list(answer.feed(piece)) == []
            assert not answer.done
        assert list(answer.end()) == ["abc"]
        assert (answer.done, answer.error, answer.events) == (True, None, 0)
        assert not answer.token_seen
        assert not answer.finished_all

    @pytest.mark.parametrize(
        "body",
        [
            event({"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}),
            encode(CHAT) + b"\n\n",
        ],
        ids=["events", "JSON"],
    )
    @pytest.mark.parametrize("size", [1, 7, 4096])
    def test_a_sentinel_ends_it(self, body: bytes, size: int) -> None:
        """The server may hold the connection open behind it."""
        answer = WholeAnswer(completion_of, sentinel=True)
        items: list[Any] = []
        text = body + b"data: [DONE]"
        for at in range(0, len(text), size):
            assert not items
            items += answer.feed(text[at : at + size])
        assert [said(item) for item in items] == ["Hi"]
        assert answer.done

    def test_an_error_is_kept(self) -> None:
        def refuse(body: bytes) -> None:
            raise StreamError(f"no {len(body)}")

        answer = WholeAnswer(refuse)
        answer.feed(b"ab")
        assert list(answer.end()) == []
        assert (str(answer.error), answer.done) == ("no 2", False)

    def test_other_errors_are_not(self) -> None:
        answer = WholeAnswer(bytes.decode)
        answer.feed(b"\xff")
        with pytest.raises(UnicodeDecodeError):
            answer.end()

    def test_it_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(whole_answer, "MAX_BODY_BYTES", 10)
        answer = WholeAnswer(bytes.decode)
        errors: list[PenstockError | None] = []
        for piece in (b"x" * 10, b"x"):
            answer.feed(piece)
            errors.append(answer.error)
        assert errors[0] is None
        assert type(errors[1]) is APIResponseError
        assert "10 bytes" in str(errors[1])

    def test_a_sentinel_in_the_text_is_text(self) -> None:
        answer = WholeAnswer(bytes.decode)
        assert list(answer.feed(b'{"x":"\ndata: [DONE]\n')) == []
        answer.feed(b'"}')
        assert list(answer.end()) == ['{"x":"\ndata: [DONE]\n"}']


@pytest.mark.parametrize("name", READERS)
class TestEach:
    @pytest.mark.parametrize(
        "tail", [b"", b"\n", b"data: [DONE]", b"\n\ndata: [DONE]\n\n", b"\r\ndata:[DONE]\r\n\r\n"]
    )
    @pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf", b" \n"])
    def test_an_answer(self, name: str, head: bytes, tail: bytes) -> None:
        read, payload = READERS[name]
        assert said(read(head + encode(payload) + tail)) == "Hi"

    @pytest.mark.parametrize(
        ("payload", "words", "code"),
        [
            ({"detail": "boom"}, "boom", None),
            ({"detail": [{"loc": ["body", "n"], "msg": "boom"}]}, "boom", None),
            ({"code": 500, "message": "boom"}, "boom", 500),
            ({"error": "boom"}, "boom", None),
            ({"error": {"message": "boom", "code": "c"}}, "boom", "c"),
            ({"object": "error", "message": "boom", "code": 5}, "boom", 5),
            ({"type": "error", "message": "boom"}, "boom", None),
            ({"type": "error", "error": {"message": "boom"}}, "boom", None),
            ({"choices": None, "data": None, "message": "boom"}, "boom", None),
            ({"choices": [], "data": [], "detail": "boom", "usage": {}}, "boom", None),
            ({"error": {"message": '{"error": {"message": "boom"}}'}}, "boom", None),
            ({"success": False, "errors": [{"message": "boom"}]}, "boom", None),
            (b"boom", "boom", None),
            (b'"boom"', "boom", None),
            (b"<html><title>boom</title></html>", "boom", None),
        ],
    )
    @pytest.mark.parametrize("tail", [b"", b"\n\ndata: [DONE]\n\n"])
    def test_an_error(self, name: str, payload: Any, words: str, code: Any, tail: bytes) -> None:
        with pytest.raises((StreamError, APIResponseError), match=words) as caught:
            READERS[name][0](encode(payload) + tail)
        if isinstance(caught.value, StreamError):
            assert caught.value.code == code

    @pytest.mark.parametrize("body", [b"", b"{}", b"null", b"5", b"[5", b"{"])
    def test_nothing(self, name: str, body: bytes) -> None:
        with pytest.raises(APIResponseError):
            READERS[name][0](body)


@pytest.mark.parametrize("name", ["chat", "text"])
class TestCompletions:
    @pytest.mark.parametrize("choices", [None, {}, "x"])
    def test_no_choices(self, name: str, choices: Any) -> None:
        with pytest.raises(APIResponseError, match="no choices"):
            READERS[name][0](encode({"id": "x", "choices": choices}))

    @pytest.mark.parametrize(
        "payload",
        [
            {"status": "failed", "reason": "out of credit"},
            {"error_code": 336, "error_msg": "out of credit"},
            {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "out of credit"}},
        ],
    )
    def test_words_in_a_shape_that_is_not_known(self, name: str, payload: Any) -> None:
        with pytest.raises(APIResponseError, match="out of credit"):
            READERS[name][0](encode(payload))

    def test_an_answer_that_says_nothing(self, name: str) -> None:
        assert READERS[name][0](encode({"id": "x", "choices": []})).choices == []

    def test_an_answer_of_no_tokens(self, name: str) -> None:
        answer = READERS[name][0](encode({"choices": [], "usage": {"prompt_tokens": 3}}))
        assert answer.usage.prompt_tokens == 3

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"error": {"message": "boom", "code": 502}}, "502: boom"),
            ({"error": "boom"}, "boom"),
            ({"finish_reason": "error"}, "the choice ended in an error"),
            ({"finish_reason": "error", "error": "boom"}, "boom"),
        ],
    )
    def test_an_error_of_a_choice(self, name: str, more: dict[str, Any], words: str) -> None:
        read, payload = READERS[name]
        for choices in ([{**payload["choices"][0], **more}], [payload["choices"][0], more]):
            with pytest.raises(StreamError) as caught:
                read(encode({"choices": choices}))
            assert str(caught.value) == words

    @pytest.mark.parametrize("nothing", [None, "", {}, False])
    def test_what_is_no_error(self, name: str, nothing: Any) -> None:
        read, payload = READERS[name]
        choice = {**payload["choices"][0], "error": nothing}
        answer = read(encode({"choices": [choice], "error": nothing}))
        assert said(answer) == "Hi"

    @pytest.mark.parametrize("end", [b"data: [DONE]\n\n", b"data: [DONE]", b""])
    def test_an_event_stream(self, name: str, end: bytes) -> None:
        deltas = [
            {"delta": {"content": "H"}, "text": "H"},
            {"delta": {"content": "i"}, "text": "i", "finish_reason": "stop"},
        ]
        body = b": ping\n\n" + b"".join(event({"choices": [delta]}) for delta in deltas) + end
        answer = READERS[name][0](body)
        assert (said(answer), answer.choices[0].finish_reason) == ("Hi", "stop")

    @pytest.mark.parametrize(
        ("last", "kind"),
        [
            (event({"error": "boom"}), StreamError),
            (event(b"{boom"), APIResponseError),
            (b"", IncompleteStreamError),
        ],
    )
    def test_an_event_stream_that_fails(
        self, name: str, last: bytes, kind: type[PenstockError]
    ) -> None:
        body = event({"choices": [{"delta": {"content": "H"}, "text": "H"}]}) + last
        with pytest.raises(kind) as caught:
            READERS[name][0](body)
        assert said(caught.value.partial) == "H"


def test_an_empty_list_of_models_is_one() -> None:
    bodies: tuple[Any, ...] = ({"data": []}, {"object": "list", "data": None}, [])
    for body in bodies:
        assert len(models_of(encode(body))) == 0
