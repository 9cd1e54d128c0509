"""Pulling rows and handing out outcomes."""

from __future__ import annotations

import pytest

from penstock import Limiter
from penstock.batch.asking import Asker, Policy
from penstock.batch.feed import Item, RowFeed
from penstock.batch.outcomes import Failure, Outcome
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, json_reply
from tests.support.chat import client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


async def test_outcomes_without_a_request_and_turns() -> None:
    failed = Outcome(0, "a", "penstock-0", None, None, b"", Failure("x", "y"), 0, 0.0, 0.0)
    items: list[Item] = [*[None] * 50, failed, *[None] * 50, failed]
    limiter = Limiter(2)
    async with client_on(json_reply(completion())) as client:
        asker = Asker(client, limiter, Policy())
        async with RowFeed(asker, items, limiter) as feed:
            assert await feed.next() == failed
            assert await feed.next() == failed
            assert await feed.next() is None
    assert asker.requests == 0
