"""Runs the Python examples of the documentation against a scripted server on loopback.

The examples stay as a stranger would copy them: they find the server through the environment.
Code that a page hides (`invisible-code-block`) chooses the server's next answer and checks
what the example before it printed.
"""

from __future__ import annotations

from sybil import Sybil

from tests.support.examples import Examples, python_blocks

examples = Examples()

pytest_collect_file = Sybil(
    parsers=[python_blocks],
    patterns=["pages/*.md", "pages/*/*.md"],
    setup=examples.setup,
    teardown=examples.teardown,
).pytest()
