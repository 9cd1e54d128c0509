"""What the transport is told of a request: plans of chats, and deadlines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import openai
import pytest

from penstock import Timeouts
from penstock.compat._plan import PLAN, RAISES
from penstock.compat.openai import OpenAI
from penstock.compat.openai._http import _GENERATION
from penstock.compat.openai._requests import draft, is_chat, making, prepare
from penstock.testing.memory import MemoryNetwork

httpx: Any = __import__(_GENERATION)


def options_of(
    url: str = "/chat/completions",
    method: str = "post",
    body: Any = None,
    timeout: Any = openai.NOT_GIVEN,
    extra: Any = None,
) -> Any:
    return SimpleNamespace(
        url=url,
        method=method,
        json_data={"model": "m"} if body is None else body,
        extra_json=extra,
        timeout=timeout,
        get_max_retries=lambda own: own,
    )


def client_of(**options: Any) -> OpenAI:
    return OpenAI(api_key="k", base_url="http://api.test/v1", **options)


def planned(client: Any, options: Any, *, stream: bool = True) -> Any:
    drafted = draft(client, options, stream=stream)
    assert drafted is not None
    return drafted


@pytest.mark.parametrize(
    ("url", "method", "expected"),
    [
        ("/chat/completions", "post", True),
        ("/deployments/m/chat/completions?api-version=1", "POST", True),
        ("/chat/completions", "get", False),
        ("/chat/completions/abc", "post", False),
        ("/completions", "post", False),
        ("/responses", "post", False),
    ],
)
def test_what_a_chat_is(url: str, method: str, expected: bool) -> None:
    assert is_chat(options_of(url, method)) is expected


def test_the_plan_of_a_chat() -> None:
    client = client_of(max_retries=5)
    plan = planned(client, options_of(body={"model": "m", "n": 3})).plan
    assert (plan.max_retries, plan.model, plan.choices, plan.stream) == (5, "m", 3, True)
    assert plan.timeouts is None
    plan = planned(client, options_of(extra={"n": 2, "model": "x"}), stream=False).plan
    assert (plan.model, plan.choices, plan.stream) == ("x", 2, False)
    plan = planned(client, options_of(body=b"{}")).plan
    assert (plan.model, plan.choices) == (None, 1)


def test_other_requests_have_none() -> None:
    assert planned(client_of(), options_of("/embeddings")).plan is None


def test_a_number_of_retries_that_is_none_is_left_to_the_sdk() -> None:
    client = client_of()
    client.max_retries = "2"  # type: ignore[assignment]
    assert planned(client, options_of()).plan is None


def test_a_foreign_client_has_no_draft() -> None:
    client = client_of(http_client=httpx.Client())
    assert draft(client, options_of(), stream=True) is None


OWN = Timeouts(connect=1, read=2, idle=3)


@pytest.mark.parametrize(
    ("given", "call", "timeouts", "untimed"),
    [
        ({}, openai.NOT_GIVEN, None, False),
        ({"timeout": 7}, openai.NOT_GIVEN, None, False),
        ({}, 7, None, False),
        ({"timeouts": OWN}, openai.NOT_GIVEN, None, True),
        ({"timeouts": OWN, "timeout": 7}, openai.NOT_GIVEN, None, True),
        ({"timeouts": OWN}, 7, Timeouts(connect=7, read=7, idle=3), False),
        ({"timeouts": OWN}, None, Timeouts(connect=None, read=None, idle=3), False),
        (
            {"timeouts": OWN},
            httpx.Timeout(9, connect=8),
            Timeouts(connect=8, read=9, idle=3),
            False,
        ),
    ],
)
def test_deadlines(given: Any, call: Any, timeouts: Any, untimed: bool) -> None:
    drafted = planned(client_of(**given), options_of(timeout=call))
    assert drafted.plan.timeouts == timeouts
    assert drafted.untimed is untimed


def test_deadlines_of_with_options() -> None:
    client = client_of(timeouts=OWN).with_options(timeout=7)
    assert planned(client, options_of()).plan.timeouts == Timeouts(connect=7, read=7, idle=3)


def test_what_the_request_is_given() -> None:
    request = httpx.Request("POST", "http://api.test", extensions={"timeout": {"read": 1}})
    prepare(request)
    assert request.extensions == {"timeout": {"read": 1}}
    with making(planned(client_of(timeouts=OWN), options_of())):
        prepare(request)
    assert request.extensions["timeout"] == {}
    assert request.extensions[PLAN].raises is request.extensions[RAISES]
    request = httpx.Request("POST", "http://api.test", extensions={"timeout": {"read": 1}})
    with making(planned(client_of(), options_of("/embeddings"))):
        prepare(request)
    assert request.extensions["timeout"] == {"read": 1}
    assert PLAN not in request.extensions
    assert RAISES in request.extensions


def test_a_request_inside_of_another_is_not_taken_for_it() -> None:
    """A callable key may use the client itself."""
    from penstock.testing.replies import completion, json_reply

    network = MemoryNetwork(
        lambda request: json_reply(
            completion() if "chat" in request.target else {"object": "list", "data": []}
        )
    )
    inner = client_of(network=network)

    def key() -> str:
        inner.models.list()
        return "k"

    with OpenAI(api_key=key, base_url="http://api.test/v1", network=network) as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "a"}])
    inner.close()
    assert [request.target for request in network.requests] == [
        "/v1/models",
        "/v1/chat/completions",
    ]
    prepare(outer := httpx.Request("POST", "http://api.test"))
    assert RAISES not in outer.extensions
