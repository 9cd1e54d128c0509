"""Where credentials may be in a recording; `test_recorder` has what a server repeats."""

from __future__ import annotations

import gzip
import zlib

import pytest

from penstock.testing.hiding import LEFT_OUT, exchange_of, hidden, secrets_of
from penstock.testing.replies import status_reply
from penstock.testing.script import RecordedRequest
from penstock.testing.tape import Tape
from penstock.testing.transcript import Segment

KEY = "sk-secret-0123456789"
REQUEST = RecordedRequest(
    method="POST",
    target=f"/v1/x?code=12345678&a=b&q={KEY}",
    headers={"authorization": f"Bearer {KEY}", "x": f"<{KEY}>"},
    body=f"my key is {KEY}, of org-12345678".encode(),
    raw_headers=((b"Authorization", f"Bearer {KEY}".encode()), (b"X", f"<{KEY}>".encode())),
)


def test_a_request_without_its_secrets() -> None:
    left = hidden(REQUEST, secrets_of(REQUEST, ["org-12345678"]))
    assert left.target == f"/v1/x?code={LEFT_OUT}&a=b&q={LEFT_OUT}"
    assert left.headers == {"authorization": LEFT_OUT, "x": f"<{LEFT_OUT}>"}
    assert left.raw_headers == ((b"Authorization", b"[left out]"), (b"X", b"<[left out]>"))
    assert left.body == b"my key is [left out], of [left out]"


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "br", "identity"])
@pytest.mark.parametrize("text", ["harmless " * 9, f"your key {KEY}"])
def test_a_compressed_answer_is_kept_where_it_shows_nothing(coding: str, text: str) -> None:
    packed = {
        "gzip": gzip.compress(text.encode()),
        "x-gzip": gzip.compress(text.encode()),
        "deflate": zlib.compress(text.encode()),
    }.get(coding, text.encode())
    answer = status_reply(200, packed, {"content-encoding": coding}, chunked=True).data
    tape = Tape(REQUEST)
    tape.segments = [Segment(0, answer[:99]), Segment(0, answer[99:])]
    kept = exchange_of(tape, bodies=False).data
    assert len(kept) == len(answer)
    assert (kept == answer) == (KEY not in text and coding != "br")
    assert KEY.encode() not in kept
    assert exchange_of(tape, bodies=False, credentials=True).data == answer


def test_what_only_claims_to_be_compressed_is_overwritten() -> None:
    tape = Tape(REQUEST)
    answer = status_reply(200, KEY, {"content-encoding": "gzip"}).data
    tape.segments = [Segment(0, answer)]
    assert exchange_of(tape, bodies=False).data == answer.replace(KEY.encode(), b"x" * len(KEY))


def test_what_unpacks_to_too_much_is_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.testing.hiding._SEARCHED", 1000)
    tape = Tape(REQUEST)
    for size in (1000, 1001):
        answer = status_reply(200, gzip.compress(b"a" * size), {"content-encoding": "gzip"}).data
        tape.segments = [Segment(0, answer)]
        assert (exchange_of(tape, bodies=False).data == answer) == (size == 1000)
