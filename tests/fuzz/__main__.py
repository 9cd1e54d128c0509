"""Fuzz penstock's wire: `python -m tests.fuzz [TARGET ...] --seconds 60`, or `nox -s fuzz`.

One target after the other, each in a process of its own. Inputs worth keeping gather in
.fuzz/, and what breaks a property is written there; `--replay FILE` checks it once more, without
atheris. Then it belongs into a test of its own, and a sentence into record.json.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import record
from .target import CORPUS, NAMES, kept_inputs, load

WORK = Path(".fuzz")
MEGABYTES = 512  # an index of 2**31 must not allocate as many of anything
SLOWEST = 20  # seconds for one input


def main(arguments: list[str] | None = None) -> None:
    chosen = _parser().parse_args(arguments)
    names = chosen.target or list(NAMES)
    failed: list[str] = []
    for name in names:
        if chosen.replay is not None:
            load(name).check(chosen.replay.read_bytes())
        elif chosen.minimise:
            minimise(name)
        elif not fuzz(name, chosen.seconds, into_record=chosen.record):
            failed.append(name)
    if failed:
        raise SystemExit(f"found something: {', '.join(failed)}")


def fuzz(name: str, seconds: int, *, into_record: bool) -> bool:
    """Whether the target stands after that many seconds."""
    target = load(name)
    corpus, seeds, found = (WORK / part / name for part in ("corpus", "seeds", "found"))
    for folder in (corpus, seeds, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (seeds / f"{number:02}").write_bytes(seed)
    dictionary = WORK / f"{name}.dict"
    dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    begun = time.monotonic()
    raised, log, code = _engine(
        name,
        f"-max_total_time={seconds}",
        f"-max_len={target.max_length}",
        "-len_control=20",
        f"-timeout={SLOWEST}",
        f"-rss_limit_mb={MEGABYTES}",
        *([f"-dict={dictionary}"] if target.words else []),
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
        *map(str, (corpus, seeds)),
        *([str(CORPUS / name)] if kept_inputs(name) else []),
    )
    run = record.figures(log)
    print(f"{name}: {run}", flush=True)
    if into_record:
        record.add(name, time.monotonic() - begun, run)
    if code:
        # A traceback may have a thousand lines, all alike.
        lines = [*raised.splitlines()[:12], "...", *raised.splitlines()[12:][-12:]]
        print(*lines, *log.splitlines()[-12:], sep="\n", flush=True)
    return code == 0


def minimise(name: str) -> None:
    """Keep in the repository the fewest inputs that reach what all of them reach.

    Those that broke a property once are called `found-...` there, and stay.
    """
    kept = WORK / "kept" / name
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    sources = [folder for folder in (WORK / "corpus" / name, CORPUS / name) if folder.exists()]
    _, log, code = _engine(name, "-merge=1", "-set_cover_merge=1", str(kept), *map(str, sources))
    if code or not any(kept.iterdir()):
        raise SystemExit(log)
    for path in kept_inputs(name):
        if not path.name.startswith("found-"):
            path.unlink()
    shutil.copytree(kept, CORPUS / name, dirs_exist_ok=True)
    record.add_kept(name)


def _engine(name: str, *options: str) -> tuple[str, str, int]:
    """What was raised, libFuzzer's output, and the exit code."""
    command = [sys.executable, "-m", "tests.fuzz.engine", name, *options]
    ended = subprocess.run(command, capture_output=True, check=False)
    raised, log = (text.decode("utf-8", "replace") for text in (ended.stdout, ended.stderr))
    return raised, log, ended.returncode


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help=f"all by default: {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--record", action="store_true", help="add the figures to record.json")
    parser.add_argument("--minimise", action="store_true", help="renew the kept corpus from .fuzz/")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="check this input, once")
    return parser


if __name__ == "__main__":
    main()
