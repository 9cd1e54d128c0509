"""An error says which provider and URL it came from, and never a key."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from penstock import AsyncClient, PenstockError, Spread, Timeouts
from penstock.testing.answers import text_reply
from penstock.testing.cuts import cut_after_events
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import error_event, error_reply, sse_reply, status_reply, tokens
from penstock.testing.script import End, Reset, Script, Stall, reply
from penstock.testing.server import closed_port
from tests.support.chat import KEY, REQUEST, Watcher, client_on

if TYPE_CHECKING:
    from collections.abc import Mapping

URL = "http://api.test/v1/chat/completions"
SHORT = {
    "Timeouts.first_token": Timeouts(first_token=0.01),
    "Timeouts.idle": Timeouts(idle=0.01),
}
LATE = cut_after_events(text_reply("Hel", "lo"), 2, Stall())


async def failure(script: Script | MemoryNetwork, **options: Any) -> PenstockError:
    chosen: dict[str, Any] = {"max_retries": 0, **options}
    async with client_on(script, **chosen) as client:
        with pytest.raises(PenstockError) as caught:
            await client.complete(REQUEST)
    return caught.value


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("script", "words"),
    [
        (error_reply(401, "no such key", code="invalid_api_key"), "401 invalid_api_key: no such"),
        (error_reply(503), "503"),
        (status_reply(302, headers={"location": "/v2"}), "302"),
        (reply(Reset()), "connection"),
        (reply(End()), "closed"),
        (reply(b"nonsense\r\n\r\n"), "HTTP/1.1"),
        (status_reply(200, "<html>", {"content-type": "text/html"}), "html"),
        (sse_reply([error_event("overloaded")]), "overloaded"),
        (cut_after_events(text_reply("Hel", "lo"), 2), "connection"),
        (sse_reply(tokens("a", finish=None), done=False), "ended"),
        (reply(Stall()), "Timeouts.first_token"),
        (LATE, "Timeouts.idle"),
    ],
)
async def test_every_error_of_a_server_names_it(script: Script, words: str) -> None:
    options = {"timeouts": SHORT[words]} if words in SHORT else {}
    error = await failure(script, **options)
    assert str(error).endswith(f" (POST {URL})")
    assert words in str(error)
    assert "\n" not in str(error)
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert str(again) == str(error)


@pytest.mark.anyio
async def test_it_names_the_provider_too() -> None:
    error = await failure(error_reply(500), provider="groq")
    assert str(error).endswith(f" (groq: POST {URL})")
    url = "https://api.openai.com/v1"
    error = await failure(error_reply(500), base_url=url)
    assert str(error).endswith(f" (openai: POST {url}/chat/completions)")


@pytest.mark.anyio
async def test_a_whole_timeout_names_it() -> None:
    error = await failure(reply(Stall()), timeouts=Timeouts(total=0.01))
    assert isinstance(error, penstock.TotalTimeout)
    assert str(error).endswith(f"(Timeouts.total) (POST {URL})")


@pytest.mark.anyio
async def test_an_error_that_names_the_server_does_not_name_it_twice() -> None:
    base_url = f"http://127.0.0.1:{closed_port()}/v1"
    async with AsyncClient(base_url, max_retries=0, proxy="") as client:
        with pytest.raises(penstock.APIConnectionError) as caught:
            await client.complete(REQUEST)
    assert str(caught.value).count("127.0.0.1") == 1


@pytest.mark.anyio
async def test_behind_a_proxy_the_server_is_named_as_well() -> None:
    network = MemoryNetwork([], refuse=1)
    proxy = "http://user:a-pass-word@proxy.test:3128"
    error = await failure(network, proxy=proxy)
    assert "the proxy proxy.test:3128" in str(error)
    assert str(error).endswith(f" (POST {URL})")
    assert "pass" not in str(error)


SECRETS: Mapping[str, dict[str, Any]] = {
    "in the query": {"base_url": "http://api.test/v1?api-version=1&api-key=in-the-query"},
    "the key in the query": {"base_url": f"http://api.test/v1?q={KEY}"},
    "the key in the path": {"base_url": f"http://api.test/{KEY}/v1"},
}


@pytest.mark.anyio
@pytest.mark.parametrize("where", SECRETS)
@pytest.mark.parametrize("script", [error_reply(500), reply(Reset()), LATE])
async def test_it_shows_no_secret(where: str, script: Script) -> None:
    watcher = Watcher()
    options: dict[str, Any] = {"timeouts": Timeouts(idle=0.01)} if script is LATE else {}
    error = await failure(script, **SECRETS[where], **options, max_retries=1, observer=watcher)
    told = [event.error for event in watcher.of("attempt_failed") + watcher.of("finished")]
    for each in (error, *told):
        assert "http://api.test/" in str(each)
        assert "in-the-query" not in str(each)
        assert KEY not in str(each)


@pytest.mark.anyio
async def test_of_several_servers_it_names_the_one_that_failed() -> None:
    watcher = Watcher()
    clients = [
        client_on(error_reply(500), f"http://{name}.test/v1", observer=watcher, max_retries=1)
        for name in ("a", "b")
    ]
    async with Spread(clients) as spread:
        with pytest.raises(penstock.InternalServerError) as caught:
            await spread.complete(REQUEST)
    first, second = watcher.of("attempt_failed")
    assert {first.server, second.server} == {"http://a.test:80/v1", "http://b.test:80/v1"}
    for event in (first, second):
        host = event.server.removesuffix(":80/v1")
        assert str(event.error).endswith(f"(POST {host}/v1/chat/completions)")
    assert str(caught.value) == str(second.error)


@pytest.mark.anyio
async def test_words_in_the_url_decide_nothing() -> None:
    """A path of "/day" is no limit per day, which would not be retried."""
    script = [error_reply(429, headers={"retry-after": "0"}), text_reply("Hi")]
    async with client_on(script, "http://api.test/per-day/v1", max_retries=1) as client:
        assert (await client.complete(REQUEST)).text == "Hi"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "path", [f"/keys/{KEY}/x", f"/x?a={KEY}", "/" + "x" * 160 + KEY + "/x" * 40]
)
async def test_a_key_in_the_path_is_masked_in_the_one_place(path: str) -> None:
    async with client_on(error_reply(500, "bad"), max_retries=0) as client:
        with pytest.raises(PenstockError) as caught:
            await client.request("GET", path)
    message = str(caught.value)
    assert message.count("GET http://api.test/v1/") == 1, message
    # Nor does the beginning of a key end a URL that is cut.
    assert KEY[:4] not in message
