"""The table of a slot's states."""

from __future__ import annotations

from penstock._limiter.slot_states import TRANSITIONS, SlotEvent, SlotState

WITH_A_PLACE = {SlotState.HELD, SlotState.LENT, SlotState.LEAVING}


def test_every_released_slot_comes_to_be_free() -> None:
    for state in SlotState:
        released = TRANSITIONS[state, SlotEvent.RELEASE]
        # The borrower is done, or the wait in line is broken off.
        ends = [TRANSITIONS.get((released, end)) for end in (SlotEvent.RETURN, SlotEvent.WITHDRAW)]
        assert released is SlotState.FREE or SlotState.FREE in ends


def test_a_place_is_had_only_by_taking_it_or_getting_it_back() -> None:
    gains = {
        event
        for (state, event), after in TRANSITIONS.items()
        if state not in WITH_A_PLACE and after in WITH_A_PLACE
    }
    assert gains == {SlotEvent.TAKE, SlotEvent.RETURN}


def test_a_place_is_given_up_only_where_no_other_slot_uses_it() -> None:
    losses = {
        (state, event)
        for (state, event), after in TRANSITIONS.items()
        if state in WITH_A_PLACE and after not in WITH_A_PLACE
    }
    assert losses == {
        (SlotState.HELD, SlotEvent.PARK),
        (SlotState.HELD, SlotEvent.RELEASE),
        (SlotState.LEAVING, SlotEvent.RETURN),
    }


def test_a_slot_that_queues_gets_no_second_place() -> None:
    events = {event for state, event in TRANSITIONS if state is SlotState.QUEUED}
    assert SlotEvent.RETURN not in events
    assert SlotEvent.LEND not in events
