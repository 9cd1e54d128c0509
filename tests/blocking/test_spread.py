"""`blocking.Spread`: the face of a blocking client over several servers."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from penstock import StreamClosedError
from penstock.blocking import Spread, fan_out, fan_out_chunks, race
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import completion, error_reply
from penstock.testing.script import Reply, Reset, reply
from penstock.testing.server import becomes_true, serve_in_thread
from tests.support.blocking import HELLO, STALLED, answer, client_of, client_on, in_thread, saying
from tests.support.chat import REQUEST

from .conftest import own_threads


def spread_over(*scripts: Any, session: Any = None, **options: Any) -> Spread:
    clients = [
        client_on(script, f"http://s{number}.test/v1", **options)
        for number, script in enumerate(scripts)
    ]
    return Spread(clients, session=session)


def counts(networks: list[MemoryNetwork]) -> list[int]:
    return [len(network.requests) for network in networks]


def test_what_is_no_client() -> None:
    asynchronous: Any = client_on(HELLO).asynchronous
    with pytest.raises(TypeError, match=r"penstock\.Client objects, not Driven"):
        Spread([asynchronous])
    with pytest.raises(ValueError, match="at least one"):
        Spread([])
    client = client_on(HELLO)
    with pytest.raises(ValueError, match="once"):
        Spread([client, client])
    assert own_threads() == []


def test_servers_take_turns_in_every_call() -> None:
    networks = [MemoryNetwork(answer) for _ in range(2)]
    with spread_over(*networks) as spread:
        assert spread.complete(**saying("ab")).choices[0].message.content == "ab"
        assert spread.chat.completions.create(**saying("b")).choices[0].message.content == "b"
        with spread.chat.completions.stream(**saying("cd")) as stream:
            assert stream.collect().choices[0].message.content == "cd"
        assert spread.request("POST", "/x", json=saying("e")).json() == completion("e")
        with spread.events("/x", json={**saying("f"), "stream": True}) as events:
            assert len(list(events)) > 1
        with spread.stream("POST", "/x", json=saying("g")) as body:
            assert b'"g"' in b"".join(body)
        assert counts(networks) == [3, 3]
        assert [server.in_flight for server in spread.statistics().servers] == [0, 0]
    assert own_threads() == []


def test_a_session_goes_to_one_server() -> None:
    networks = [MemoryNetwork(answer) for _ in range(3)]
    with spread_over(*networks, session="user") as spread:
        for _ in range(4):
            spread.complete(**saying("a"), user="u")
            spread.complete(**saying("a"), session="u")
    assert sorted(counts(networks)) == [0, 0, 8]


@pytest.mark.parametrize("failure", [reply(Reset()), error_reply(503, "loading")])
def test_a_server_that_fails_is_left_out(failure: Reply) -> None:
    broken, whole = MemoryNetwork(failure), MemoryNetwork(answer)
    with spread_over(broken, whole) as spread:
        for _ in range(6):
            assert spread.complete(**saying("a")).choices[0].message.content == "a"
        assert [server.failures for server in spread.statistics().servers] == [1, 0]
    assert (len(broken.requests), len(whole.requests)) == (1, 6)


def test_fan_outs_and_races_take_it() -> None:
    networks = [MemoryNetwork(answer) for _ in range(2)]
    requests = [saying(number) for number in range(10)]
    with spread_over(*networks) as spread:
        with fan_out(spread.complete, requests, limit=4) as results:
            found = [each.unwrap().choices[0].message.content for each in results]
        assert sorted(map(str, found)) == [str(number) for number in range(10)]
        with fan_out_chunks(spread, requests, limit=4) as chunks:
            assert sum(1 for _ in chunks) >= 10
        with race(spread, [saying("a"), (spread, saying("a"))]) as winner:
            assert winner.collect().choices[0].message.content == "a"
    assert all(count >= 5 for count in counts(networks))


def test_other_settings() -> None:
    networks = [MemoryNetwork(answer) for _ in range(2)]
    with spread_over(*networks) as spread:
        other = spread.with_options(headers={"x-a": "b"})
        other.complete(**saying("a"))
        other.complete(**saying("a"))
        assert other.clients == spread.clients
        other.close()
        spread.complete(**saying("a"))  # the other one has only left
    assert [network.requests[0].headers["x-a"] for network in networks] == ["b", "b"]


def test_closing_it_ends_streams_and_clients() -> None:
    with serve_in_thread(STALLED) as one, serve_in_thread(STALLED) as two:
        spread = Spread([client_of(one), client_of(two)])
        streams = [spread.chat.completions.stream(**REQUEST) for _ in range(2)]
        for stream in streams:
            stream.__enter__()
            next(stream)
        with in_thread(lambda: list(streams[0])) as outcome:
            assert becomes_true(lambda: one.requests and two.requests)
            spread.close()
        assert isinstance(outcome[0], StreamClosedError)
        for call in (spread.complete, spread.clients[0].complete):
            with pytest.raises(StreamClosedError):
                call(**REQUEST)
        spread.close()
        assert becomes_true(lambda: one.open_connections + two.open_connections == 0)
    assert own_threads() == []


def test_warm_connections() -> None:
    with (
        serve_in_thread(HELLO) as one,
        serve_in_thread(HELLO) as two,
        Spread([client_of(one), client_of(two)]) as spread,
    ):
        assert spread.warm(2) == 4
        assert spread.statistics().idle_connections == 4


def test_it_is_shown_with_its_servers_and_cannot_be_pickled() -> None:
    spread = spread_over(HELLO, HELLO)
    assert repr(spread) == "<Spread http://s0.test:80/v1, http://s1.test:80/v1>"
    with pytest.raises(TypeError):
        pickle.dumps(spread)
    spread.close()
