"""Which server gets an attempt: a model beside it, and sessions."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock import errors
from penstock._policy.servers import OUT_FIRST, OUT_LAST, Place, Servers, is_failure, out_for

NAMES = [f"http://s{n}.test/v1" for n in range(5)]


def servers(count: int) -> Servers:
    return Servers(NAMES[:count])


def take(of: Servers, now: float = 0.0, **options: Any) -> Place:
    place = of.take(now, **options)
    assert place is not None
    return place


# --- least in flight ---


def test_equals_take_turns() -> None:
    three = servers(3)
    for _ in range(3):
        places = [take(three) for _ in range(3)]
        assert sorted(place.server.index for place in places) == [0, 1, 2]
        for place in places:
            place.release()
    # Also when one request follows the other.
    order = []
    for _ in range(6):
        place = take(three)
        order.append(place.server.index)
        place.release()
    assert order == [0, 1, 2, 0, 1, 2]


def test_the_server_with_the_fewest_in_flight_is_next() -> None:
    two = servers(2)
    first, second = take(two), take(two)
    first.release()
    for _ in range(3):
        place = take(two)
        assert place.server is first.server
        place.release()
    second.release()


def test_a_server_that_waits_or_rests_comes_later() -> None:
    two = servers(2)
    assert [take(two, waits=lambda index: index == 0).server.index for _ in range(5)] == [1] * 5
    assert take(two, waits=lambda index: True).server.index == 0
    resting = take(two)
    two.rests(resting, 0.0, 10.0)
    index = resting.server.index
    assert take(two, 9.9).server.index != index
    assert {take(two, 10.0).server.index for _ in range(20)} == {0, 1}


def test_closed_servers_get_nothing() -> None:
    three = servers(3)
    assert {take(three, closed=lambda index: index != 1).server.index for _ in range(4)} == {1}
    assert three.take(0.0, closed=lambda index: True) is None


# --- out and back ---


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_it_is_out_for_a_growing_while(failures: int, random: float) -> None:
    seconds = out_for(failures, random)
    assert 0.75 * OUT_FIRST <= seconds <= OUT_LAST
    assert seconds <= out_for(failures + 1, random)


def test_failures_at_the_same_time_count_once() -> None:
    one, other = servers(2).all, servers(2)
    places = [take(other, waits=lambda index: index == 1) for _ in range(10)]
    for place in places:
        other.failed(place, 0.0, 0.0)
    assert other.all[0].failures == 1
    assert other.all[0].out_until == OUT_FIRST
    assert one[0].failures == 0


def test_an_answer_to_a_request_from_before_takes_nothing_back() -> None:
    two = servers(2)
    old, new = (take(two, waits=lambda index: index == 1) for _ in range(2))
    two.failed(new, 0.0, 0.0)
    two.answered(old)
    assert two.all[0].failures == 1


def test_one_probe_at_a_time() -> None:
    two = servers(2)
    failed = take(two)
    two.failed(failed, 0.0, 0.0)
    failed.release()
    assert take(two, OUT_FIRST - 0.01).server.index == 1
    probe = take(two, OUT_FIRST)
    assert probe.server is failed.server
    assert take(two, OUT_FIRST).server.index == 1
    # A probe that was given up has told nothing.
    probe.release()
    probe = take(two, OUT_FIRST)
    assert probe.server is failed.server
    two.failed(probe, OUT_FIRST, 0.0)
    probe.release()
    assert failed.server.failures == 2
    assert take(two, OUT_FIRST + 1.9).server.index == 1
    probe = take(two, OUT_FIRST + 2)
    assert probe.server is failed.server
    two.answered(probe)
    assert failed.server.failures == 0


def test_a_request_that_cannot_be_sent_again_is_no_probe() -> None:
    two = servers(2)
    failed = take(two)
    two.failed(failed, 0.0, 0.0)
    failed.release()
    assert {take(two, 100.0, may_probe=False).server.index for _ in range(5)} == {1}
    other = take(two, 100.0, may_probe=False)
    two.failed(other, 100.0, 0.0)
    # Now nothing else is left.
    assert take(two, 100.0, may_probe=False).server is failed.server


def test_all_out() -> None:
    two = servers(2)
    for index in (0, 1):
        place = take(two, waits=lambda other, index=index: other != index)
        two.failed(place, float(index), 0.0)
        place.release()
    # The one that is due first, at once.
    assert take(two, 1.5).server.index == 0
    assert take(two, 1.5, tried={0}).server.index == 1


def test_a_pause_that_the_server_asks_for_is_kept() -> None:
    one = servers(1)
    place = take(one)
    one.failed(place, 0.0, 0.0, 45.0)
    assert one.all[0].out_until == 45.0


# --- sessions ---


@given(st.lists(st.text(), min_size=1, unique=True), st.integers(1, 5))
def test_a_session_stays_where_it_is(sessions: list[str], count: int) -> None:
    for session in sessions:
        homes = {take(servers(count), session=session, tried={0, 1}).server.index for _ in range(3)}
        assert len(homes) == 1


def test_sessions_are_shared_out_evenly() -> None:
    counts = Counter(take(servers(4), session=f"session {n}").server.index for n in range(4000))
    assert all(900 < counts[index] < 1100 for index in range(4))


@given(st.integers(2, 5), st.data())
def test_a_server_more_moves_only_the_sessions_that_it_gets(
    count: int, data: st.DataObject
) -> None:
    gone = data.draw(st.integers(0, count - 1))
    names = NAMES[:count]
    fewer = [name for name in names if name != names[gone]]
    for n in range(50):
        before = take(Servers(names), session=str(n)).server.name
        after = take(Servers(fewer), session=str(n)).server.name
        assert before == after or before == names[gone]


def test_a_session_moves_while_its_server_is_out_and_comes_back() -> None:
    three = servers(3)
    home = take(three, session="a")
    two_more = [take(three, session="a").server for _ in range(2)]
    assert two_more == [home.server] * 2
    three.failed(home, 0.0, 0.0)
    away = take(three, session="a").server
    assert away is not home.server
    assert take(three, session="a").server is away
    probe = take(three, OUT_FIRST, session="a")
    assert probe.server is home.server
    assert take(three, OUT_FIRST, session="a").server is away
    three.answered(probe)
    assert take(three, OUT_FIRST, session="a").server is home.server


def test_two_clients_of_one_server_are_two() -> None:
    pair = Servers(["http://a.test/v1"] * 2)
    homes = {take(pair, session=str(n)).server.index for n in range(50)}
    assert homes == {0, 1}


# --- what a failure is ---


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (errors.APIConnectionError("x"), True),
        (errors.ConnectTimeout("x"), True),
        (errors.ReadTimeout("x"), True),
        (errors.FirstTokenTimeout("x"), True),
        (errors.TotalTimeout("x"), False),
        (errors.SlotTimeout("x"), False),
        (errors.StreamInterruptedError("x"), False),
        (errors.APIResponseError("x"), False),
    ],
)
def test_what_puts_a_server_out(error: errors.PenstockError, failure: bool) -> None:
    assert is_failure(error) is failure


@pytest.mark.parametrize("status", [400, 401, 408, 409, 429, 500, 501, 502, 503, 504, 529])
def test_which_status_puts_a_server_out(status: int) -> None:
    error = errors.APIStatusError("x", status_code=status)
    assert is_failure(error) is (status in (502, 503, 504))


# --- a model ---


class Machine(RuleBasedStateMachine):
    """Attempts come and go, servers fail and answer; the choice is compared with the rules."""

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        self.servers = servers(count)
        self.now = 0.0
        self.places: list[Place] = []

    @rule(seconds=st.sampled_from([0.1, 0.8, 3.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        session=st.sampled_from([None, None, "a", "b"]),
        may_probe=st.booleans(),
        tried=st.sets(st.integers(0, 3), max_size=2),
    )
    def choose(self, session: str | None, may_probe: bool, tried: set[int]) -> None:
        every = self.servers.all
        inside = [server for server in every if not server.failures]
        due = [
            server
            for server in every
            if server.failures
            and server.out_until <= self.now
            and server.probe is None
            and server.index not in tried
        ]
        if not may_probe and inside:
            due = []
        counts = {server.index: len(server.places) for server in every}
        place = take(self.servers, self.now, session=session, may_probe=may_probe, tried=tried)
        chosen = place.server
        self.places.append(place)
        assert len(chosen.places) == counts[chosen.index] + 1
        if not inside and not due:
            untried = [server for server in every if server.index not in tried] or every
            idle = [server for server in untried if server.probe in (None, place)] or untried
            assert chosen.out_until == min(server.out_until for server in idle)
        elif session is None and due:
            assert chosen in due
        elif session is None:
            fresh = [server for server in inside if server.index not in tried] or inside
            assert chosen in fresh
            assert counts[chosen.index] == min(counts[server.index] for server in fresh)
        else:
            assert chosen in inside or chosen in due

    @precondition(lambda self: bool(self.places))
    @rule(data=st.data(), what=st.sampled_from(["answered", "failed", "given up"]))
    def end(self, data: st.DataObject, what: str) -> None:
        place = self.places.pop(data.draw(st.integers(0, len(self.places) - 1)))
        server = place.server
        failures, fresh = server.failures, place.epoch == server.epoch
        if what == "answered":
            self.servers.answered(place)
            assert server.failures == (0 if fresh else failures)
        elif what == "failed":
            self.servers.failed(place, self.now, 0.5)
            assert server.failures == failures + fresh
            if fresh:
                assert server.out_until > self.now
        place.release()
        place.release()

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "servers"):
            return
        for server in self.servers.all:
            assert server.places == {place for place in self.places if place.server is server}
            assert server.probe is None or server.probe in server.places
            assert bool(server.failures) == (server.out_until > -math.inf)


TestMachine = Machine.TestCase
