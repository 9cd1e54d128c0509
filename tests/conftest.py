"""Settings of the whole suite: the backends of async tests, and hypothesis's profiles.

pyproject.toml holds the rest, which makes leaks fail a test:

    [tool.pytest.ini_options]
    pythonpath = ["."]
    addopts = ["--import-mode=importlib"]
    filterwarnings = [
        "error::ResourceWarning",
        "error::pytest.PytestUnraisableExceptionWarning",
    ]
"""

from __future__ import annotations

import gc
import os
import signal

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from penstock.testing.plugin import real_backend as anyio_backend

from .support.sweeps import unsampled

__all__ = ["anyio_backend", "collect_ignore"]

collect_ignore = ["frameworks"]  # they have environments of their own: nox -s tests_frameworks

# A shell has its background jobs ignore Ctrl-C, but tests of interruptions need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# deadline=None: a loaded machine is not a bug. too_slow is off for the same reason.
# A change is judged by the same examples each time; new ones are the evidence run's to find.
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=50,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
explore = {"derandomize": False, "database": DirectoryBasedExampleDatabase(".hypothesis/examples")}
settings.register_profile("evidence", settings.get_profile("ci"), max_examples=200, **explore)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=2000, **explore)
# For mutants: that a test fails is all there is to know.
settings.register_profile(
    "mutation",
    settings.get_profile("ci"),
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)
settings.load_profile(os.environ.get("PENSTOCK_HYPOTHESIS", "ci"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "sampled(share): a costly test of which the suite runs this share of the parameter sets,"
        " each value at least once; all of them by PENSTOCK_SWEEP=all, or if it is named by its id",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if any("::" in argument for argument in config.args):
        return
    left_out = unsampled(items)
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=list(left_out))


def pytest_collection_finish() -> None:
    """Leave the tests themselves, half a million objects, out of garbage collection.

    Many tests collect garbage, and would look through all of these each time (0.3 s).
    """
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Short ids without backslashes, which pytest escapes anew when one process collects again."""
    if not isinstance(val, (str, bytes)):
        return None
    shown = ascii(val).removeprefix("b")[1:-1]
    return shown.replace("\\", "/")[:60]
