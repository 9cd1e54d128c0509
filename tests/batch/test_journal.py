"""What an output file has: answers, tails to cut, and damage."""

from __future__ import annotations

import io
import json
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.batch.journal import Journal, custom_id_of, read_journal
from penstock.batch.stops import NotStarted

OWN = "penstock-" + "a" * 24
OTHER = "penstock-" + "b" * 24


def line(custom_id: Any = "a", id: str = OWN, status: Any = 200, error: Any = None) -> bytes:
    response = {"status_code": status, "request_id": "r", "body": {"x": "\u2028"}}
    members = {"id": id, "custom_id": custom_id, "response": response, "error": error}
    return json.dumps(members, ensure_ascii=False).encode() + b"\n"


def read(data: bytes) -> Journal:
    return anyio.run(read_journal, io.BytesIO(data), "out.jsonl")


def test_an_answer_is_for_custom_id_and_digest() -> None:
    journal = read(line())
    assert journal.answers == 1
    assert journal.cut_at is None
    assert journal.answers_row("a", OWN)
    assert not journal.answers_row("a", OTHER)
    assert not journal.answers_row("b", OWN)
    assert journal.has("a")
    assert not journal.has("b")


@pytest.mark.parametrize(
    "other",
    [
        line(status=400),
        line(status=500),
        line(status=None),
        line(status="200"),
        line(error={"code": "x", "message": "y"}),
        line(custom_id=None),
        b'{"id":"%b","custom_id":"a","response":null,"error":{"code":"x"}}\n' % OWN.encode(),
        b'{"id":"%b","custom_id":"a","response":[],"error":null}\n' % OWN.encode(),
    ],
)
def test_what_is_no_answer(other: bytes) -> None:
    journal = read(other)
    assert journal.answers == 0
    assert journal.cut_at is None
    assert not journal.answers_row("a", OWN)


@pytest.mark.parametrize("id", ["vllm-1234", "batch_req_abc", "", "penstock"])
def test_lines_of_other_makers_answer_by_custom_id(id: str) -> None:
    journal = read(line(id=id))
    assert journal.answers_row("a", OWN)
    assert journal.answers_row("a", OTHER)
    assert not journal.answers_row("b", OWN)


def test_a_custom_id_answered_for_several_requests() -> None:
    journal = read(line() + line(id=OTHER))
    assert journal.answers_row("a", OWN)
    assert journal.answers_row("a", OTHER)
    assert not journal.answers_row("a", "penstock-" + "c" * 24)


def test_a_row_is_seen_once() -> None:
    journal = read(line())
    assert journal.see("a")
    assert not journal.see("a")
    assert journal.answers_row("a", OWN)


@pytest.mark.parametrize(
    "tail",
    [
        b"{",
        line()[:-1],
        line()[:-2],
        line("b")[:40] + b"\n",
        b"\0" * 5000,
        b"\0" * 50 + b"\n",
        b"\xff\xfe garbage \n",
        b"garbage\n\0\0\0",
        b"  ",
    ],
)
def test_a_tail_that_is_no_line_is_cut(tail: bytes) -> None:
    whole = line("x") + line("y", status=500)
    journal = read(whole + tail)
    assert journal.cut_at == len(whole)
    assert journal.answers == 1


@pytest.mark.parametrize("only", [b"{", b"\0" * 100, b"garbage\n", line()[:-1]])
def test_a_file_of_nothing_but_a_tail(only: bytes) -> None:
    assert read(only).cut_at == 0


def test_blank_lines_are_nothing() -> None:
    assert read(b"\n" + line() + b"\r\n\n").cut_at is None


@pytest.mark.parametrize("bad", [b"{\n", b"\0\0\n", b"garbage\n"])
def test_damage_in_the_middle(bad: bytes) -> None:
    with pytest.raises(NotStarted, match=r"line 2 of out\.jsonl is damaged"):
        read(line("x") + bad + line("y"))


@pytest.mark.parametrize(
    "data",
    [
        b'{"custom_id":"a","method":"POST","url":"/v1/x","body":{}}\n',
        b'{"custom_id":"a","method":"POST","url":"/v1/x","body":{}}',
        b"[1]\n",
        b"5\n",
        line() + b'{"a": 1}\n',
        b"# A text\n\nof several lines\n",
        line(custom_id=5),
    ],
)
def test_files_of_another_kind(data: bytes) -> None:
    with pytest.raises(NotStarted, match="is not the output of a batch"):
        read(data)


def test_lines_that_only_a_tolerant_decoder_reads() -> None:
    for odd in (b"NaN", b'"\\ud800"', b"1e999"):
        data = (
            b'{"id":"%b","custom_id":"a","response":{"status_code":200,"body":%b},"error":null}\n'
        )
        assert read(data % (OWN.encode(), odd)).answers_row("a", OWN)


def test_the_custom_id_of_a_line() -> None:
    assert custom_id_of(line("x")) == "x"
    assert custom_id_of(b'{"custom_id":"x","response":{"body":NaN}}') == "x"
    assert custom_id_of(b"garbage") is None
    assert custom_id_of(b'{"custom_id":5}') is None


@given(st.lists(st.sampled_from("abcdef")), st.integers(0, 400))
def test_any_cut_leaves_the_whole_lines(names: list[str], cut: int) -> None:
    lines = [line(name) for name in names]
    data = b"".join(lines)[:cut]
    journal = read(data)
    whole = data.rpartition(b"\n")[0] + b"\n" if b"\n" in data else b""
    kept = data if journal.cut_at is None else data[: journal.cut_at]
    assert kept == (whole if whole != b"\n" else b"")
    assert journal.answers == kept.count(b"\n")
