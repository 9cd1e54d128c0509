"""Which runs hypothesis makes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec import structs

from .script import TIMEOUTS, EventKind, Op, Patience, Plan, Script, Use

PAUSES = st.sampled_from([0.0, 0.0, 0.25, 1.0, 3.0, 7.0])
PATIENCE = st.builds(Patience, st.sampled_from([0.0, 0.1, 0.6, 1.9, 4.2]), st.booleans())
MAYBE = st.none() | PATIENCE
RARELY = st.booleans().flatmap(lambda rarely: MAYBE if rarely else st.none())

EVENTS = st.lists(
    st.tuples(
        PAUSES,
        st.sampled_from(
            ["text", "text", "text", "text", "ping", "role", "empty", "usage", "error"]
        ),
    ),
    max_size=6,
)
ENDS: list[tuple[tuple[float, EventKind], ...]] = [
    ((0.0, "finish"),),
    ((1.0, "finish"),),
    ((0.0, "finish"), (0.0, "usage")),
    (),
]
ANSWERS = st.builds(
    Plan,
    wait=PAUSES,
    events=st.builds(lambda some, end: (*some, *end), EVENTS, st.sampled_from(ENDS)),
    done=st.booleans(),
    framing=st.sampled_from([True, False, "close"]),
    apart=st.booleans(),
    splits=st.lists(st.integers(0, 900), max_size=2).map(tuple),
    fault=st.sampled_from([None, "end", "reset", "stall"]),
    # The second: about where the head ends and the first event comes.
    at=st.integers(0, 900) | st.integers(80, 200),
)
REFUSALS = st.builds(
    Plan,
    wait=PAUSES,
    status=st.sampled_from([400, 401, 404, 408, 429, 429, 500, 503, 503]),
    retry_after=st.sampled_from([None, "0", "1", "4.5", "61"]),
    fault=st.sampled_from([None, None, None, "end", "reset", "stall"]),
    at=st.integers(0, 300),
)
SILENCE = st.builds(Plan, fault=st.sampled_from(["end", "reset", "stall"]), at=st.just(0))
PLANS = st.one_of(ANSWERS, ANSWERS, ANSWERS, REFUSALS, SILENCE)

SOME_OPS = st.lists(
    st.builds(
        Op,
        st.sampled_from(["read", "read", "sleep", "collect", "first token"]),
        st.integers(1, 4),
        MAYBE,
    ),
    max_size=3,
)
LAST_OPS = st.sampled_from([(Op(),), (Op(),), (Op(),), (Op("collect"),), ()]) | st.builds(
    lambda patience: (Op("to the end", patience=patience),), PATIENCE
)
OPS = st.builds(lambda some, last: (*some, *last), SOME_OPS, LAST_OPS)
TIMES = st.sampled_from([0.0, 0.0, 0.3, 1.1, 2.6])


def _use(draw: st.DrawFn) -> Use:
    kind = draw(
        st.sampled_from(
            ["block", "block", "bare", "complete", "race", "chunks", "results", "channels"]
        )
    )
    many = kind in ("race", "chunks", "results", "channels")
    values: dict[str, Any] = {"kind": kind, "start": draw(TIMES)}
    values["life"] = draw(RARELY)
    if many:
        values["calls"] = draw(st.integers(1, 4))
        values["limit"] = draw(st.integers(1, 3))
    if kind in ("block", "bare", "race"):
        values["ops"] = draw(OPS)
        values["opening"] = draw(MAYBE)
        values["closed_at"] = draw(st.none() | TIMES)
    if kind == "block":
        values["openings"] = draw(st.integers(1, 3))
    if kind == "race":
        values["delay"] = draw(st.sampled_from([0.0, 0.8, None]))
    if kind in ("chunks", "results", "channels"):
        values["buffer"] = draw(st.integers(1, 3))
        values["shared"] = draw(st.booleans())
        values["ordered"] = draw(st.booleans())
        values["reads"] = draw(MAYBE)
        values["stop"] = draw(st.none() | st.integers(0, 6))
    return Use(**values)


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """Any run."""
    uses = tuple(_use(draw) for _ in range(draw(st.integers(1, 3))))
    calls = sum(use.calls for use in uses)
    return Script(
        uses=uses,
        plans=tuple(tuple(draw(st.lists(PLANS, min_size=1, max_size=3))) for _ in range(calls)),
        connects=tuple(
            draw(
                st.lists(
                    st.sampled_from(["at once", "at once", "slow", "refuse", "hang"]), max_size=4
                )
            )
        ),
        limit=draw(st.integers(1, 3)),
        max_retries=draw(st.integers(0, 3)),
        timeouts=structs.replace(
            TIMEOUTS,
            first_token=draw(st.sampled_from([None, None, 2.15])),
            idle=draw(st.sampled_from([None, None, 1.65])),
            total=draw(st.sampled_from([None, None, 9.35])),
        ),
        client_closed_at=draw(st.sampled_from([*[None] * 9, 0.0, 1.1, 2.6])),
    )
