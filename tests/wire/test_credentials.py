"""Credentials are known by the names of their headers, and covered however they are spelled."""

from __future__ import annotations

import html
import json
import string
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.credentials import cover_all, header_secrets, names_a_credential

from .linear import growth

KEY = "sk-Secret/0123456789"
keys = st.text(string.ascii_letters + string.digits + "-_./+=~&<>'\"\\%", min_size=8)


def crosses(found: str) -> str:
    return "x" * len(found)


@pytest.mark.parametrize(
    "name", ["Authorization", "proxy-authorization", "x-api-key", "Cookie", "cf-access-token"]
)
def test_what_headers_with_credentials_are_called(name: str) -> None:
    assert names_a_credential(name.encode())


@pytest.mark.parametrize("name", ["host", "content-type", "accept", "user-agent"])
def test_what_others_are_called(name: str) -> None:
    assert not names_a_credential(name.encode())


def test_the_secrets_of_headers_come_with_and_without_their_scheme() -> None:
    headers = [(b"Host", b"a"), (b"Authorization", b"Bearer abc"), (b"X-Key", b"def")]
    assert header_secrets(headers) == ["Bearer abc", "def", "abc", "def"]


@given(st.lists(keys, min_size=1), st.text(), st.text())
def test_every_spelling_of_every_secret_is_covered(
    secrets: list[str], before: str, after: str
) -> None:
    cover = cover_all(secrets, lambda _: "\n")
    assert cover is not None
    for secret in secrets:
        in_json = json.dumps(secret)[1:-1]
        spellings = [
            secret,
            secret.lower(),
            in_json,
            in_json.replace("/", "\\/"),
            html.escape(secret),
            urllib.parse.quote(secret, safe=""),
            # With both kinds of quotes, Python has to escape one.
            repr("\"'" + secret)[4:-1],
        ]
        for spelling in spellings:
            assert spelling not in cover(f"\n{before}\n{spelling}\n{after}\n")


@given(keys, st.binary())
def test_a_stand_in_of_the_same_length_keeps_every_length(key: str, data: bytes) -> None:
    cover = cover_all([key], crosses)
    assert cover is not None
    text = data.decode("latin-1") + key + data.decode("latin-1")
    assert len(cover(text)) == len(text)


def test_the_whole_comes_before_its_part() -> None:
    cover = cover_all(["another-" + KEY, KEY], crosses)
    assert cover is not None
    assert cover(f"another-{KEY} {KEY}") == "x" * 28 + " " + "x" * 20


@pytest.mark.parametrize("end", ["&", '"', "'", "/"])
def test_nothing_is_left_of_a_longer_spelling(end: str) -> None:
    cover = cover_all([KEY + end], lambda _: "*")
    assert cover is not None
    for spelling in (html.escape(KEY + end), urllib.parse.quote(KEY + end, safe=""), KEY + end):
        assert cover(f"<{spelling}>") == "<*>"


@pytest.mark.parametrize("shown", range(8, len(KEY)))
@pytest.mark.parametrize("ending", ["", "..."])
def test_what_a_cut_left_of_it(shown: int, ending: str) -> None:
    cover = cover_all([KEY], crosses)
    assert cover is not None
    assert cover(f"you sent {KEY[:shown]}{ending}") == f"you sent {'x' * shown}{ending}"


def test_what_a_cut_left_of_an_escape() -> None:
    cover = cover_all(['abcdefgh"ijk'], lambda _: "***")
    assert cover is not None
    for spelt in ("abcdefgh\\", 'abcdefgh\\"i', "abcdefgh&quo", "abcdefgh%2"):
        assert cover(f"x {spelt}...") == "x ***..."
        assert cover(spelt) == "***"


def test_another_word_with_the_same_beginning_is_innocent() -> None:
    cover = cover_all([KEY], crosses)
    assert cover is not None
    for text in (KEY[:7], f"{KEY[:8]}!", f"{KEY[:12]} goes on"):
        assert cover(text) == text


def test_without_a_secret_of_some_length_there_is_nothing_to_cover() -> None:
    assert cover_all([], crosses) is None
    assert cover_all([None, "", "local", "sevenxx"], crosses) is None


@given(st.text("ab1", min_size=8, max_size=16), st.text("ab1", max_size=20))
def test_a_key_that_begins_inside_of_its_own_beginning_is_covered(key: str, before: str) -> None:
    cover = cover_all([key], lambda _: "\n")
    assert cover is not None
    assert key not in cover(before + key + " ")


def test_a_text_full_of_what_all_keys_begin_with_takes_no_longer_for_a_long_key() -> None:
    text = "sk-proj-" * 3000 + "!"

    def work(length: int) -> None:
        cover = cover_all(["sk-proj-" + "k" * length], crosses)
        assert cover is not None
        assert cover(text) == text

    # Looking at as much as the key is long at each beginning would be linear, a growth of 1.
    assert growth(work, small=100) < 0.5
