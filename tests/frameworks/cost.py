"""CPU time for a token by framework: the SDK's client beside penstock's, in one run.

    python -m tests.frameworks.cost             # measure what this environment has
    python -m tests.frameworks.cost --publish   # write the table into the page from the record

A long streamed answer is drained. The server is a process of its own, so that its work does not
count. The two clients take turns, and the best turn of each counts: the rest is the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from penstock.testing import serve_in_thread, text_reply
from tests.frameworks.drivers import FRAMEWORKS, Driver, installed
from tests.support.page_blocks import renew, table

RECORD = Path(__file__).with_name("cost.json")
PAGE = Path(__file__).parents[2] / "docs" / "pages" / "frameworks" / "index.md"
TOKENS = 1000
TURNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="frameworks, by default all that are installed")
    parser.add_argument("--publish", action="store_true", help="write the table into the page")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve()
        return
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if not options.publish:
        with _server() as base_url:
            for name in options.names or installed():
                record[name] = measured(name, base_url)
                print(name, record[name], flush=True)
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    rows = [["", "the SDK's client, µs", "penstock's, µs", "ratio"]]
    for name in filter(record.get, FRAMEWORKS):
        stock, ours = record[name]["stock"], record[name]["penstock"]
        rows.append([name, f"{stock:.0f}", f"{ours:.0f}", f"{ours / stock:.2f}"])
    if options.publish:
        renew(PAGE, "frameworks", [("cost", table(rows))])


def measured(name: str, base_url: str) -> dict[str, object]:
    """Microseconds of CPU for a token, with each client, and with which openai."""
    driver = FRAMEWORKS[name].driver()
    turns = [asyncio.run(_turn(driver, base_url)) for _ in range(TURNS)]
    stock, ours = (min(turn[index] for turn in turns) for index in (0, 1))
    return {"stock": round(stock, 1), "penstock": round(ours, 1), "openai": version("openai")}


async def _turn(driver: type[Driver], base_url: str) -> list[float]:
    costs: list[float] = []
    for stock in (True, False):
        framework = driver(base_url, stock=stock)
        await framework.read("Warm up.", [], stop_after=5)
        heard: list[str] = []
        began = time.process_time()
        await framework.read("Count.", heard)
        costs.append((time.process_time() - began) / TOKENS * 1e6)
        assert len(heard) == TOKENS
        await framework.aclose()
    return costs


@contextmanager
def _server() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.frameworks.cost", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.kill()


def _serve() -> None:
    with serve_in_thread(text_reply(*[f" {n}" for n in range(TOKENS)])) as server:
        print(server.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
