"""What a refusal for load does: to the refused request, and to others of the same limiter."""

from __future__ import annotations

import logging
import time
from typing import Any

import anyio
import pytest

import penstock
from penstock import Limiter
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import Reply
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))


def refused(retry_after: str | None = None, status: int = 429) -> Reply:
    return error_reply(status, headers={} if retry_after is None else {"retry-after": retry_after})


async def time_of(call: Any) -> float:
    began = anyio.current_time()
    await call
    return anyio.current_time() - began


@pytest.mark.parametrize("asked", ["1771404540", "31536000", "3601", "an epoch"])
@pytest.mark.parametrize("cap", [0.5, 3.0])
async def test_nobody_waits_for_years(
    asked: str, cap: float, caplog: pytest.LogCaptureFixture
) -> None:
    if asked == "an epoch":
        asked = str(int(time.time()) + 40_000)
    network = MemoryNetwork([refused(asked), HELLO, HELLO])
    async with client_on(network, limiter=Limiter(4), max_retry_wait=cap) as client:
        with caplog.at_level(logging.WARNING, "penstock"):
            began = anyio.current_time()
            with pytest.raises(penstock.RateLimitError) as caught:
                await client.complete(REQUEST)
            assert anyio.current_time() == began
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 60
        # Never silent: the others wait, and it is said why.
        assert "asks to wait" in caplog.text
        assert "max_retry_wait" in caplog.text
        [shown] = [vars(each) for each in caplog.records if each.name == "penstock.limiter"]
        assert (shown["retry_after"], shown["wait"]) == (caught.value.retry_after, cap)
        assert await time_of(client.complete(REQUEST)) == pytest.approx(cap)
        assert await time_of(client.complete(REQUEST)) == 0


async def test_a_time_since_the_epoch_that_is_near_is_waited_for() -> None:
    reply = error_reply(429, headers={"retry-after": "1900000030", "date": DATE})
    network = MemoryNetwork([reply, HELLO])
    async with client_on(network) as client:
        assert await time_of(client.complete(REQUEST)) == 30


DATE = "Sun, 17 Mar 2030 17:46:40 GMT"  # 1900000000


async def test_a_date_is_read_by_the_servers_clock() -> None:
    until = "Sun, 17 Mar 2030 17:46:47 GMT"
    network = MemoryNetwork([error_reply(503, headers={"date": DATE, "retry-after": until}), HELLO])
    async with client_on(network) as client:
        assert await time_of(client.complete(REQUEST)) == 7


@pytest.mark.parametrize("status", [429, 498, 499])
async def test_others_back_off_too(status: int) -> None:
    network = MemoryNetwork([error_reply(status), HELLO])
    limiter = Limiter(1)
    async with client_on(network, limiter=limiter, max_retries=0) as client:
        with pytest.raises(penstock.APIStatusError):
            await client.complete(REQUEST)
        # The back-off after a first failure is 0.5 s, less a quarter at most.
        assert 0.375 <= await time_of(client.complete(REQUEST)) <= 0.5
    assert limiter.statistics().refused == 1


@pytest.mark.parametrize(
    ("status", "sent"),
    [(498, 3), (499, 3), (429, 3), (503, 3), (529, 3), (501, 1), (505, 1), (502, 3), (504, 3)],
)
async def test_which_statuses_are_sent_again(status: int, sent: int) -> None:
    network = MemoryNetwork(error_reply(status))
    async with client_on(network) as client:
        with pytest.raises(penstock.APIStatusError):
            await client.complete(REQUEST)
    assert len(network.requests) == sent


async def test_googles_retry_info_and_its_limit_per_day() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}

    def body(quota: str) -> list[Any]:
        return [{"error": {"message": "Quota", "details": [{"quotaId": quota}, info]}}]

    network = MemoryNetwork(
        [json_reply(body("PerMinute"), 429), HELLO, json_reply(body("PerDay"), 429)]
    )
    async with client_on(network) as client:
        assert await time_of(client.complete(REQUEST)) == 34
        with pytest.raises(penstock.RateLimitError) as caught:
            await client.complete(REQUEST)
    assert caught.value.retry_after == 34
    assert len(network.requests) == 3


async def test_the_exhausted_limit_is_waited_for() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "99",
        "x-ratelimit-reset-requests": "8h",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m0.5s",
    }
    network = MemoryNetwork([error_reply(429, headers=headers), HELLO])
    async with client_on(network, max_retry_wait=61) as client:
        assert await time_of(client.complete(REQUEST)) == 60.5


@pytest.mark.parametrize("refused_first", ["patient", "hasty"])
async def test_clients_that_share_a_limiter_pause_it_each_within_its_own_bound(
    refused_first: str,
) -> None:
    limiter = Limiter(4)
    waits = {"patient": 20.0, "hasty": 0.5}
    networks = {name: MemoryNetwork([refused("31536000"), *[HELLO] * 4]) for name in waits}
    async with (
        client_on(networks["patient"], limiter=limiter, max_retry_wait=20) as patient,
        client_on(networks["hasty"], limiter=limiter, max_retry_wait=0.5) as hasty,
    ):
        clients = {"patient": patient, "hasty": hasty}
        with pytest.raises(penstock.RateLimitError):
            await clients[refused_first].complete(REQUEST)
        # Whoever was refused says for how long: for nobody longer than it would wait itself.
        cap = waits[refused_first]
        (other,) = waits.keys() - {refused_first}
        began = anyio.current_time()
        with pytest.raises(penstock.RateLimitError):
            await clients[other].complete(REQUEST)
        assert anyio.current_time() - began == pytest.approx(cap)
        left = waits[other]
        assert await time_of(clients[refused_first].complete(REQUEST)) == pytest.approx(left)
        assert await time_of(clients[other].complete(REQUEST)) == 0
    assert limiter.statistics().in_flight == 0
