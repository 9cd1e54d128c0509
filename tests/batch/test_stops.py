"""Why a run stopped."""

from __future__ import annotations

import pickle

import penstock
from penstock.batch.stops import BatchStopped


def test_a_stop_is_an_error_of_the_library() -> None:
    error = BatchStopped("no answer for 300 s", reason="unavailable")
    assert isinstance(error, penstock.errors.PenstockError)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.reason) == ("no answer for 300 s", "unavailable")
