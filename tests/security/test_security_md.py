"""SECURITY.md says what is: its bounds are the constants of the source, its tests are there."""

from __future__ import annotations

import re
from pathlib import Path

import penstock
from penstock._call.reader import MAX_BYTES_AHEAD, MAX_CHUNKS_AHEAD
from penstock._call.refusal import ERROR_BODY_BYTES, ERROR_BODY_SECONDS, ERROR_EXCERPT_BYTES
from penstock._http.connections import MAX_IDLE
from penstock._http.exchange import DRAIN_BYTES, DRAIN_SECONDS
from penstock._http.head_gate import MAX_HEAD_BYTES
from penstock._http.lookup import MAX_ADDRESSES
from penstock._http.network import READ_SIZE
from penstock._policy.retry import MAX_RETRY_WAIT
from penstock._wire.accumulate import MAX_TOOL_CALLS
from penstock._wire.chunked import MAX_LINE, MAX_TRAILERS
from penstock._wire.completion import MAX_CHOICES
from penstock._wire.credentials import SHORTEST_SECRET
from penstock._wire.encoding import FEED_LIMIT
from penstock._wire.excerpt import MAX_DEPTH
from penstock._wire.head import MAX_HEADER_LINES
from penstock._wire.sse import MAX_EVENT_BYTES
from penstock._wire.stream_error import MAX_BODY_EXCERPT
from penstock._wire.unstreamed import MAX_BODY_BYTES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()


def size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


BOUNDS = {
    "head of a response, informational ones before it included": size(MAX_HEAD_BYTES),
    "header lines of a response": str(MAX_HEADER_LINES),
    "head of a proxy's answer": size(MAX_HEAD_BYTES),
    "addresses of a name that are tried": str(MAX_ADDRESSES),
    "line with the size of a chunk": size(MAX_LINE),
    "trailers of a chunked body": size(MAX_TRAILERS),
    "one event of a stream, and so one line": size(MAX_EVENT_BYTES),
    "body that is read as a whole": size(MAX_BODY_BYTES),
    "body of an error": size(ERROR_BODY_BYTES),
    "wait for the body of an error": f"{ERROR_BODY_SECONDS:g} s",
    "what one read of a compressed body becomes": size(FEED_LIMIT),
    "content codings of a body": "1",
    "choices of an answer": str(MAX_CHOICES),
    "tool calls of an answer": str(MAX_TOOL_CALLS),
    "chunks before the first token, in a race": str(MAX_CHUNKS_AHEAD),
    "bytes before the first token, in a race": size(MAX_BYTES_AHEAD),
    "depth of the JSON that an error keeps": str(MAX_DEPTH),
    "text of a body that an error keeps": f"{MAX_BODY_EXCERPT} characters",
    "wait before a retry that a server may ask for": f"{MAX_RETRY_WAIT:g} s",
    "bytes after the end of a stream that are read for reuse": size(DRAIN_BYTES),
    "time in which they are read": f"{DRAIN_SECONDS:g} s",
    "idle connections of a client": str(MAX_IDLE),
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table in this section, without its head."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_bounds_are_those_of_the_source() -> None:
    assert {what: bound for what, bound, _ in rows("The bounds")} == BOUNDS
    assert f"One read brings at most {size(READ_SIZE)}" in TEXT


def test_the_errors_exist() -> None:
    for _, _, beyond in rows("The bounds"):
        for name in re.findall(r"`(\w+Error)`", beyond):
            assert issubclass(getattr(penstock, name), penstock.PenstockError)


def test_the_defaults_are_those_of_the_source() -> None:
    assert f"with its first {size(ERROR_EXCERPT_BYTES)}" in TEXT
    assert f"A key of fewer than {SHORTEST_SECRET} characters" in TEXT
    timeouts = penstock.Timeouts()
    assert f"Within `Timeouts.read`, {timeouts.read:g} s" in TEXT
    assert timeouts.total is timeouts.first_token is timeouts.idle is None


def test_each_promise_names_its_tests_and_each_test_is_named() -> None:
    named: set[Path] = set()
    for _, tests in rows("What is promised"):
        found = re.findall(r"`([\w/]+\.py)`", tests)
        assert found, tests
        named |= {ROOT / name if "/" in name else Path(__file__).parent / name for name in found}
    assert all(path.is_file() for path in named), named
    here = set(Path(__file__).parent.glob("test_*.py"))
    assert here - named == {Path(__file__)}
