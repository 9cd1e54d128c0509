"""A job of a million rows, all of them asked, and its memory over time.

    python -m tests.bench.long_job --rows 1000000 --folder FOLDER [--picture FILE.svg]

Runs `penstock batch` on rows of its own, against the server of `jobs`, and notes the memory and
the answers every two seconds. Killed and run again, it goes on where it was, as the job does. The
picture is drawn of all that was noted in the folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import msgspec

from . import pictures
from .jobs import bodies, served
from .pictures import memory
from .samples import Sample

EVERY = 2.0  # seconds between two samples


def write_rows(path: Path, rows: int) -> None:
    """Write the input, unless it is there."""
    if path.exists():
        return
    with path.open("w") as file:
        for number, body in enumerate(bodies(rows)):
            line = {
                "custom_id": f"row {number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
            file.write(json.dumps(line) + "\n")


def sample(pid: int, run: int, began: float, output: Path) -> Sample:
    """Return a sample of a running process. OSError or LookupError if it has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    sizes = dict(line.split(":", 1) for line in status.splitlines())
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Sample(
        run,
        round(time.monotonic() - began, 1),
        round(int(sizes["VmRSS"].split()[0]) / 1024, 1),
        round(int(sizes["VmHWM"].split()[0]) / 1024, 1),
        (int(ticks[11]) + int(ticks[12])) / 100,
        output.stat().st_size if output.exists() else 0,
    )


def run(folder: Path, rows: int, concurrency: int, backend: str) -> int:
    """Run the job, or go on with it; return its exit status."""
    write_rows(folder / "in.jsonl", rows)
    noted = folder / "samples.jsonl"
    before = samples(noted)
    number = 1 + max((each.run for each in before), default=0)
    with served() as url, noted.open("ab") as file:
        command = [
            sys.executable, "-m", "penstock", "batch", "--base-url", url, "--backend", backend,
            "--concurrency", str(concurrency), "--progress-every", "60",
            "--report", str(folder / f"report-{number}.json"),
            str(folder / "in.jsonl"), str(folder / "out.jsonl"),
        ]  # fmt: skip
        began = time.monotonic()
        with subprocess.Popen(command) as process:
            while process.poll() is None:
                try:
                    found = sample(process.pid, number, began, folder / "out.jsonl")
                except (OSError, LookupError):
                    break
                file.write(msgspec.json.encode(found) + b"\n")
                file.flush()
                time.sleep(EVERY)
        return process.returncode


def samples(path: Path) -> list[Sample]:
    """Return what was noted so far."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Sample) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--backend", default="asyncio")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    if arguments.picture is None:
        sys.exit(run(arguments.folder, arguments.rows, arguments.concurrency, arguments.backend))
    draw(arguments.folder, arguments.picture)


def draw(folder: Path, path: Path) -> None:
    """Draw the latest process of the job. Wants matplotlib."""
    noted = samples(folder / "samples.jsonl")
    latest = [each for each in noted if each.run == noted[-1].run]
    with (folder / "in.jsonl").open("rb") as file:
        rows = sum(1 for _ in file)
    with (folder / "out.jsonl").open("rb") as file:
        sizes = [len(line) for line in islice(file, 100_000)]
    pyplot = pictures.ready()
    figure = memory.picture(pyplot, latest, rows, sum(sizes) / len(sizes))
    pictures.save(pyplot, figure, path)


if __name__ == "__main__":
    main()
