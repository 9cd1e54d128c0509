from __future__ import annotations

import sys

import anyio
import pytest

from penstock._loops import event_loop_clock, in_trio


@pytest.mark.anyio
async def test_which_event_loop_runs(anyio_backend_name: str) -> None:
    assert in_trio() == (anyio_backend_name == "trio")
    clock = event_loop_clock()
    before = anyio.current_time()
    now = clock()
    assert before <= now <= anyio.current_time()


def test_no_event_loop() -> None:
    assert not in_trio()
    with pytest.raises(RuntimeError):
        event_loop_clock()


def test_trio_is_not_imported_to_find_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "trio")
    assert not in_trio()
    assert "trio" not in sys.modules
