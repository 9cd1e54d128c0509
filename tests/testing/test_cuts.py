"""Cuts, splits and drips change what they say, and nothing else."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import (
    APIConnectionError,
    IncompleteStreamError,
    PenstockError,
    StreamInterruptedError,
    Timeouts,
)
from penstock.testing.answers import text_reply
from penstock.testing.cuts import (
    cut_after_events,
    cut_after_head,
    cut_at,
    cut_in_head,
    drip,
    every_byte,
    split_at,
)
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import PING, Framing, sse_event, sse_reply, tokens
from penstock.testing.script import End, Fault, Pause, Repeat, Reply, Reset, Send, Stall, reply
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

WORDS = ("Hel", "lo", " there")
FRAMINGS: list[Framing] = [True, False, "close"]
pieces = st.lists(
    st.one_of(
        st.binary(max_size=8).map(Send),
        st.integers(0, 3).map(Pause),
        st.builds(Repeat, st.binary(max_size=3), st.integers(0, 3)),
    ),
    max_size=6,
).map(lambda steps: Reply(tuple(steps)))


@given(pieces, st.integers(0, 60))
def test_a_cut_keeps_exactly_the_first_bytes(whole: Reply, n: int) -> None:
    data = b"".join(
        step.data * step.times if isinstance(step, Repeat) and step.times is not None
        else getattr(step, "data", b"")
        for step in whole.steps
    )  # fmt: skip
    cut = cut_at(whole, n, End())
    assert cut.data == data[:n]
    assert cut.steps[-1] == End()


@given(pieces, st.lists(st.integers(-2, 60)))
def test_splits_and_drips_keep_every_byte_and_pause(whole: Reply, positions: list[int]) -> None:
    pauses = [step for step in whole.steps if isinstance(step, Pause)]
    split = split_at(whole, positions)
    assert split.data == whole.data
    assert [step for step in split.steps if isinstance(step, Pause)] == pauses
    assert split_at(split, positions) == split
    slow = drip(whole, 0.5, size=3)
    assert slow.data == whole.data
    assert all(len(step.data) <= 3 for step in slow.steps if isinstance(step, Send))


def test_a_cut_counts_what_an_endless_repeat_sends() -> None:
    endless = reply(b"ab", Repeat(b"xyz", None, every=1))
    assert cut_at(endless, 6, End()).steps == (
        Send(b"ab"), Pause(1), Send(b"xyz"), Pause(1), Send(b"x"), End(),
    )  # fmt: skip


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("whole_segments", [True, False])
def test_events_are_found_in_every_framing(
    framing: Framing, newline: str, whole_segments: bool
) -> None:
    events = tokens(*WORDS)
    whole = sse_reply(
        [PING, *events], chunked=framing, newline=newline, one_segment_each=whole_segments, bom=True
    )
    for n, event in enumerate(events, 1):
        assert cut_after_events(whole, n, End()).data.endswith(sse_event(event, newline))
    done = cut_after_events(whole, len(events) + 1).data
    assert done.endswith(sse_event("[DONE]", newline))
    with pytest.raises(ValueError, match="fewer events"):
        cut_after_events(whole, len(events) + 2)


def test_the_events_of_an_endless_repeat() -> None:
    event = sse_event("x")
    whole = sse_reply([Repeat(event)], chunked=False, done=False)
    assert cut_after_events(whole, 3, End()).data.endswith(b"\r\n\r\n" + 3 * event)


def test_what_is_no_response_has_no_head() -> None:
    with pytest.raises(ValueError, match="no whole head"):
        cut_after_head(b"junk")


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [Reset(), End()])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_what_the_client_makes_of_the_named_cuts(fault: Fault, framing: Framing) -> None:
    whole = sse_reply(tokens(*WORDS), chunked=framing)
    proper_end = framing == "close" and fault == End()
    broken = APIConnectionError if fault == Reset() else PenstockError
    cuts: list[tuple[Reply, type[PenstockError], str]] = [
        (cut_in_head(whole, fault), APIConnectionError, ""),
        (cut_after_head(whole, fault), broken, ""),
        (
            cut_after_events(whole, 2, fault),
            IncompleteStreamError if proper_end else StreamInterruptedError,
            "Hel",
        ),
    ]
    for cut, error, text in cuts:
        async with client_on(cut, max_retries=0) as client:
            stream = client.chat.completions.stream(**REQUEST)
            with pytest.raises(error):
                await stream.collect()
            said = "".join(choice.message.content or "" for choice in stream.partial.choices)
            assert said == text


@pytest.mark.anyio
async def test_a_drip_takes_its_time_and_a_stall_takes_for_ever() -> None:
    whole = text_reply("Hi")
    # The drip is slower than the usual grace after a finish_reason.
    async with client_on(drip(whole, 0.5), timeouts=Timeouts(trailing=None)) as client:
        start = anyio.current_time()
        assert (await client.complete(REQUEST)).choices[0].message.content == "Hi"
        # All but the end of the framing, which nobody has to wait for.
        assert 0 <= len(whole.data) * 0.5 - (anyio.current_time() - start) < 10
    async with client_on(cut_after_events(every_byte(whole), 2, Stall())) as client:
        stream = client.chat.completions.stream(**REQUEST)
        with anyio.move_on_after(100) as scope:
            await stream.collect()
        assert scope.cancelled_caught
        assert stream.partial.choices[0].message.content == "Hi"
        await stream.aclose()
