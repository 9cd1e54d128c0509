"""The file of a cassette can be read by people, and says again what was written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.testing.cassette_file import read, text_of, write
from penstock.testing.transcript import Exchange, Segment

if TYPE_CHECKING:
    from pathlib import Path

bodies = st.one_of(
    st.just(b""),
    st.binary(max_size=20),
    st.dictionaries(st.text(), st.text() | st.floats() | st.integers(), max_size=3).map(
        lambda value: json.dumps(value).encode()
    ),
)
tokens = st.text("abcXYZ-", min_size=1)
exchanges = st.builds(
    Exchange,
    method=st.sampled_from(["GET", "POST"]),
    target=st.text(min_size=1),
    headers=st.lists(st.tuples(tokens, st.text("a: ü/").map(str.strip)), max_size=3).map(tuple),
    body=bodies,
    segments=st.lists(
        st.builds(Segment, st.just(0.0), st.binary(max_size=9) | st.text().map(str.encode)),
        max_size=4,
    ).map(tuple),
    end=st.sampled_from(["kept", "server closed", "reset", "client closed"]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(exchanges, max_size=3))
def test_what_is_written_is_read(tmp_path: Path, given_: list[Exchange]) -> None:
    path = tmp_path / "answers.json"
    write(path, [text_of(each) for each in given_])
    again = read(path)
    assert [replace(each, body=b"") for each in again] == [
        replace(each, body=b"") for each in given_
    ]
    for before, after in zip(given_, again, strict=True):
        assert after.body is not None
        if after.body != before.body:
            assert repr(json.loads(after.body)) == repr(json.loads(before.body or b""))
    write(path, [text_of(each) for each in again])
    assert read(path) == again


def test_a_person_can_read_it(tmp_path: Path) -> None:
    exchange = Exchange(
        method="POST",
        target="/v1/chat/completions",
        headers=(("Host", "api.test"),),
        body=b'{"model":"m","messages":[{"role":"user","content":"H\\u00fc"}]}',
        segments=(
            Segment(0.1, b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"),
            Segment(0.2, b'data: {"a": "\xc3\xbc"}\n\n'),
            Segment(0.3, b"\xff"),
        ),
    )
    path = tmp_path / "answers.json"
    write(path, [text_of(exchange)])
    assert (
        path.read_text("utf-8")
        == r"""{
  "penstock_cassette": 1,
  "exchanges": [
    {
      "request": {
        "method": "POST",
        "target": "/v1/chat/completions",
        "headers": [
          "Host: api.test"
        ],
        "json": {
          "model": "m",
          "messages": [
            {
              "role": "user",
              "content": "Hü"
            }
          ]
        }
      },
      "response": [
        [
          "HTTP/1.1 200 OK\r\n",
          "content-type: text/event-stream\r\n",
          "\r\n"
        ],
        [
          "data: {\"a\": \"ü\"}\n",
          "\n"
        ],
        {
          "base64": "/w=="
        }
      ],
      "end": "kept"
    }
  ]
}
"""
    )


REQUEST = '{"method": "GET", "target": "/", "headers": ["nothing"]}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[]", "no penstock_cassette"),
        ('{"penstock_cassette": 2}', "version 2, and this penstock reads 1"),
        ('{"penstock_cassette": 1}', "exchanges"),
        ('{"penstock_cassette": 1, "exchanges": [{}]}', "request"),
        (
            f'{{"penstock_cassette": 1, "exchanges": [{{"request": {REQUEST}, "end": "kept"}}]}}',
            "not a header: 'nothing'",
        ),
        (
            f'{{"penstock_cassette": 1, "exchanges": [{{"request": {REQUEST}, "end": "so"}}]}}',
            "no way to end: 'so'",
        ),
        ("[" * 100_000, "RecursionError"),
    ],
)
def test_another_file_is_refused(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"answers\.json is not a cassette: .*" + why):
        read(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    write(path, [])
    before = path.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        write(path, ["\ud800"])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
