"""The loggers; what they are told is in `call/test_log.py`."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from penstock._logs import DEBUG, logger


def test_a_logger_below_that_of_the_library() -> None:
    assert logger("retry") is logging.getLogger("penstock.retry")
    assert DEBUG == logging.DEBUG


PROGRAM = """
import sys
import penstock
penstock.AsyncClient("http://api.test/v1")
assert "logging" not in sys.modules
from penstock._logs import logger
logger("stream").warning("no handler, no output")
import logging
print(logging.getLogger("penstock").handlers)
"""


def test_it_is_imported_when_it_is_needed_and_silent() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{PROGRAM}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "[<NullHandler (NOTSET)>]"


@pytest.mark.parametrize("level", ["info", "loud"])
def test_what_the_program_sets_up_after_the_import_counts(level: str) -> None:
    program = (
        "import os\n"
        f"os.environ['PENSTOCK_LOG'] = {level!r}\n"
        "import logging, penstock\n"
        "penstock.AsyncClient('http://api.test/v1')\n"
        "logging.getLogger('penstock').setLevel(logging.ERROR)\n"
        "from penstock._logs import logger\n"
        "print(logger('retry').isEnabledFor(logging.INFO))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
