from __future__ import annotations

import itertools

import pytest

from penstock._call.lifecycle import TRANSITIONS, Event, InvalidTransition, Lifecycle, StreamState

S = StreamState
LIVE = {S.NEW, S.SENDING, S.WAITING, S.OPEN, S.FLOWING}
ENDED = {S.COMPLETED, S.FAILED, S.CLOSED}

EDGES = {
    (S.NEW, Event.SEND, S.SENDING),
    (S.SENDING, Event.HEAD, S.OPEN),
    (S.OPEN, Event.FIRST_BYTE, S.FLOWING),
    (S.SENDING, Event.RETRY, S.WAITING),
    (S.OPEN, Event.RETRY, S.WAITING),
    (S.WAITING, Event.SEND, S.SENDING),
    (S.SENDING, Event.WITHDRAW, S.NEW),
    (S.WAITING, Event.WITHDRAW, S.NEW),
    (S.FLOWING, Event.FINISH, S.COMPLETED),
    *((state, Event.FAIL, S.FAILED) for state in LIVE),
    *((state, Event.CLOSE, S.CLOSED) for state in LIVE),
    *((state, Event.CLOSE, state) for state in ENDED),
}


def reachable(start: StreamState) -> set[StreamState]:
    """Every state that some path of one or more edges leads to."""
    found: set[StreamState] = set()
    fresh = {start}
    while fresh:
        fresh = {to for (state, _), to in TRANSITIONS.items() if state in fresh} - found
        found |= fresh
    return found


def at(state: StreamState) -> Lifecycle:
    lifecycle = Lifecycle()
    lifecycle.state = state
    return lifecycle


def test_the_table_has_the_designed_edges_and_no_other() -> None:
    assert {(state, event, to) for (state, event), to in TRANSITIONS.items()} == EDGES


@pytest.mark.parametrize(("state", "event"), list(itertools.product(StreamState, Event)))
def test_each_pair_follows_its_edge_or_raises_and_stays(state: StreamState, event: Event) -> None:
    lifecycle = at(state)
    if (state, event) in TRANSITIONS:
        lifecycle.advance(event)
        assert lifecycle.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(InvalidTransition, match=f"{state} has no {event.name}"):
            lifecycle.advance(event)
        assert lifecycle.state is state


def test_no_path_from_flowing_reaches_sending() -> None:
    assert reachable(S.FLOWING) == ENDED
    assert (S.FLOWING, Event.RETRY) not in TRANSITIONS
    assert (S.FLOWING, Event.SEND) not in TRANSITIONS


def test_what_has_ended_stays_as_it_is() -> None:
    for state in ENDED:
        assert reachable(state) == {state}


def test_every_live_state_can_be_closed_and_every_state_is_reached() -> None:
    assert reachable(S.NEW) == set(StreamState)
    assert all(S.CLOSED in reachable(state) for state in LIVE)


def test_the_usual_life() -> None:
    lifecycle = Lifecycle()
    seen = [lifecycle.state]
    for event in (
        Event.SEND, Event.RETRY, Event.SEND, Event.HEAD, Event.FIRST_BYTE, Event.FINISH,
        Event.CLOSE,
    ):  # fmt: skip
        lifecycle.advance(event)
        seen.append(lifecycle.state)
    assert seen == [
        "new", "sending", "waiting", "sending", "open", "flowing", "completed", "completed",
    ]  # fmt: skip
