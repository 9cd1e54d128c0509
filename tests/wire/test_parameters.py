"""Keyword arguments go into the body; slips are refused or warned about."""

from __future__ import annotations

import string
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire import parameters
from penstock._wire.parameters import body_members, choices_asked

KNOWN = sorted(name for name in parameters._KNOWN if len(name) >= 4)


def warned(**params: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert body_members(params, stream=False) == {**params, "stream": False}
    assert all(warning.category is UserWarning for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("stream", [True, False])
def test_members_and_what_is_merged(stream: bool) -> None:
    given = {"temperature": 0, "extra_body": {"top_k": 5, "temperature": 1}}
    assert body_members(given, stream=stream) == {"temperature": 1, "top_k": 5, "stream": stream}
    assert "extra_body" in given
    assert body_members({"extra_body": None}, stream=stream) == {"stream": stream}
    assert body_members({"extra_body": {"stream": stream}}, stream=stream) == {"stream": stream}


@pytest.mark.parametrize("value", [5, None, 5.0])
def test_timeout_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"pass timeouts=penstock\.Timeouts"):
        body_members({"timeout": value}, stream=False)


@pytest.mark.parametrize("extra", ["a", [("a", 1)], 5])
def test_an_extra_body_is_a_mapping(extra: object) -> None:
    with pytest.raises(TypeError, match="extra_body must be a mapping"):
        body_members({"extra_body": extra}, stream=False)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("other", [None, 0, "true"])
def test_an_extra_body_does_not_change_how_the_answer_is_read(stream: bool, other: object) -> None:
    for value in (other, not stream):
        with pytest.raises(ValueError, match="extra_body cannot change stream"):
            body_members({"extra_body": {"stream": value}}, stream=stream)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"),
        ("temperatur", "temperature"),
        ("temperaturee", "temperature"),
        ("tempreature", "temperature"),
        ("max_token", "max_tokens"),
        ("maxtokens", "max_tokens"),
        ("max-tokens", "max_tokens"),
        ("tool_choise", "tool_choice"),
        ("extra_header", "extra_headers"),
        ("stram", "stream"),
        ("sed", "seed"),
        ("respnse_format", "response_format"),
    ],
)
def test_a_slip_is_sent_with_a_warning(name: str, meant: str) -> None:
    (message,) = warned(**{name: 1})
    assert message == (
        f"{name} is not a known parameter: did you mean {meant}? It is sent as it is"
    )


@pytest.mark.parametrize("name", [*KNOWN, "n", "k", "vendor", "x_vendor_option", "top_p_min"])
def test_no_warning(name: str) -> None:
    if name not in ("extra_body",):
        assert warned(**{name: 1}) == []


letters = st.sampled_from(string.ascii_lowercase + "_")


@given(st.sampled_from(KNOWN), st.data())
def test_any_slip_of_one_letter(known: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(known) - 1))
    letter = data.draw(letters)
    slips = {
        known[:at] + known[at + 1 :],
        known[:at] + letter + known[at:],
        known[:at] + letter + known[at + 1 :],
        known[:at] + known[at : at + 2][::-1] + known[at + 2 :],
    }
    for slip in slips - parameters._KNOWN - {"timeout"}:
        assert len(warned(**{slip: 1})) == 1, slip


@given(st.sampled_from(KNOWN), st.text(letters, max_size=12))
def test_two_letters_off_is_another_word(known: str, tail: str) -> None:
    name = known + "xx" + tail
    assert warned(**{name: 1}) == []


@pytest.mark.parametrize(
    ("params", "prompt", "choices"),
    [
        ({}, None, 1),
        ({"n": 3}, None, 3),
        ({"n": 3, "extra_body": {"n": 2}}, None, 2),
        ({"extra_body": {"x": 1}}, None, 1),
        ({"n": None}, None, 1),
        ({"n": 0}, None, 1),
        ({"n": "2"}, None, 1),
        ({}, "text", 1),
        ({}, ["a", "b", "c"], 3),
        ({}, [1, 2, 3], 1),
        ({"n": 2}, [[1, 2], [3], [4]], 6),
    ],
)
def test_how_many_choices_are_asked_for(params: dict[str, Any], prompt: Any, choices: int) -> None:
    assert choices_asked(params, prompt) == choices
