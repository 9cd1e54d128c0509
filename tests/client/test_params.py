from __future__ import annotations

import pytest

import penstock
from penstock._client.params import ParseParams, RequestParams
from penstock._wire import parameters

# Written out in the signatures.
ARGUMENTS = {"model", "messages", "stream", "timeouts", "max_retries", "extra_headers"}
LEGACY = {"best_of", "echo", "prompt", "suffix"}
FOR_SPREAD = {"session"}
FOR_TYPES = {"lenient"}
UNLIKE_ANY = {"n"}  # too short for a slip


def test_type_checkers_know_the_names_that_slips_are_told_from() -> None:
    known = set(parameters._KNOWN)
    assert set(penstock.ChatParams.__annotations__) == (
        known - ARGUMENTS - LEGACY | FOR_SPREAD | FOR_TYPES | UNLIKE_ANY
    )
    assert set(penstock.TextParams.__annotations__) <= known | FOR_SPREAD | UNLIKE_ANY
    assert set(penstock.TextParams.__annotations__) >= LEGACY - {"prompt"}


def test_no_keyword_is_required() -> None:
    for params in (penstock.ChatParams, penstock.TextParams, ParseParams, RequestParams):
        assert not params.__required_keys__


@pytest.mark.parametrize("name", ["model", "messages", "prompt"])
def test_complete_takes_a_whole_request(name: str) -> None:
    assert name in RequestParams.__annotations__
