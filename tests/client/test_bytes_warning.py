"""Nothing compares text with bytes: `python -bb` makes an exception of that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_tour_under_bb() -> None:
    command = [sys.executable, "-bb", "-m", "tests.client.under_bb", "asyncio", "trio"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
