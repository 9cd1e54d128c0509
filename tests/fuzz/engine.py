"""One target in libFuzzer's hands: `python -m tests.fuzz.engine TARGET [libFuzzer's options]`.

A process of its own, because libFuzzer ends it. Atheris counts the branches of what is
imported within its block, so nothing of that may be imported before.
"""

from __future__ import annotations

import sys

import atheris

from .target import load

INSTRUMENTED = ["penstock", "h11", "email", "tests.wire.reference_sse"]


def main() -> None:
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = load(name)
    # For a merge libFuzzer starts itself again, by a shell.
    command = f"{sys.executable} -m tests.fuzz.engine {name}"
    atheris.Setup([command, *options], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
