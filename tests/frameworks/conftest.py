"""The scripted server of each test, and what every test has to leave behind: nothing."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TypeAlias

import pytest

from penstock.testing import Script, Server, no_leaks, serve_in_thread
from tests.frameworks import drivers
from tests.frameworks.drivers import Driver

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else its import asks a server for prices

# What only group a installs.
collect_ignore = (
    [] if find_spec("logfire") else ["test_direct.py", "test_telemetry.py", "test_vendor_sdks.py"]
)

Serve: TypeAlias = Callable[[Script], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that plays a script on real sockets, in a thread of its own.

    When the test is over, no socket of it may be open.
    """
    with no_leaks(), ExitStack() as stack:
        yield lambda script: stack.enter_context(serve_in_thread(script))
        # Frameworks keep their results in cycles; a warning in there belongs to this test.
        gc.collect()


@pytest.fixture
def framework(request: pytest.FixtureRequest) -> type[Driver]:
    """The driver of a framework; imported here, so that `-k` imports only what it selects."""
    return drivers.FRAMEWORKS[request.param].driver()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes a `framework` all that are installed and have what it checks.

    `@pytest.mark.needs("tools")` leaves out the frameworks that lack tools.
    """
    if "framework" in metafunc.fixturenames:
        needed = {name for mark in metafunc.definition.iter_markers("needs") for name in mark.args}
        found = [n for n in drivers.installed() if not needed & drivers.FRAMEWORKS[n].lacks]
        metafunc.parametrize("framework", found, indirect=True)
