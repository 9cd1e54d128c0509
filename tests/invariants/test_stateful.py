"""Promises 1 to 3, 5, 7, 8, 10 and 11 together: any server, any use, any moment of cancelling.

A script says what the server does with each request, what each of some tasks does with its
calls, and when; it is played in virtual time. What went over the wire, and what the callers
were told, is then held against a model. PENSTOCK_HYPOTHESIS=thorough plays more scripts,
PENSTOCK_STATEFUL as many as it says.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings

from .evidence import count
from .stateful.play import Play
from .stateful.script import Script
from .stateful.strategies import scripts
from .virtual_uvloop import BACKENDS, run_virtually

EXAMPLES = int(os.environ.get("PENSTOCK_STATEFUL", "0")) or settings().max_examples


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=EXAMPLES)
@given(script=scripts())
def test_any_run(backend: str, script: Script) -> None:
    count("examples")
    play = Play(script)
    run_virtually(backend, play.run)
    assert not play.violations, "\n".join(play.violations)
