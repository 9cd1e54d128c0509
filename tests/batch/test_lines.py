"""Lines of files and pipes."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.batch.lines import InputFile, PipeLines, is_blank
from penstock.batch.stops import NotStarted
from penstock.testing.plugin import real_backend as anyio_backend

__all__ = ["anyio_backend"]


def test_lines_end_at_lf_alone(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"a\r\nb\xe2\x80\xa8c\x0b\x0c\x85\n\nd")
    assert list(InputFile(str(path))) == [b"a\r\n", b"b\xe2\x80\xa8c\x0b\x0c\x85\n", b"\n", b"d"]


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    assert list(InputFile(str(path))) == [b"a\n", b"\xef\xbb\xbfb\n"]


def test_compressed_lines(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl.GZ"
    path.write_bytes(gzip.compress(b"a\n") + gzip.compress(b"b\nc"))
    file = InputFile(str(path))
    assert not file.is_pipe
    assert list(file) == list(file) == [b"a\n", b"b\n", b"c"]


@pytest.mark.parametrize("damage", ["cut", "changed", "plain", "empty"])
def test_damaged_compression(tmp_path: Path, damage: str) -> None:
    whole = gzip.compress(os.urandom(1000).hex().encode() * 20)
    data = {
        "cut": whole[:-20],
        "changed": whole[:300] + b"\xff" * 20 + whole[320:],
        "plain": b'{"a": 1}\n',
        "empty": whole[:5],
    }[damage]
    path = tmp_path / "in.gz"
    path.write_bytes(data)
    with pytest.raises(NotStarted, match=r"in\.gz"):
        list(InputFile(str(path)))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="No such file"):
        InputFile(str(tmp_path / "none"))
    with pytest.raises(NotStarted, match="is a directory"):
        InputFile(str(tmp_path))
    (tmp_path / "in").write_bytes(b"a\n")
    file = InputFile(str(tmp_path / "in"))
    (tmp_path / "in").unlink()
    with pytest.raises(NotStarted, match="cannot read"):
        list(file)


def test_blank_lines() -> None:
    assert all(map(is_blank, (b"", b"\n", b"\r\n", b" \t\r\n")))
    assert not any(map(is_blank, (b"{}\n", b"\0\n")))


async def _piped(pieces: list[bytes]) -> list[bytes]:
    reading, writing = os.pipe()

    def write() -> None:
        for piece in pieces:
            os.write(writing, piece)
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        return [line async for line in PipeLines(reading)]
    finally:
        thread.join()
        os.close(reading)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=20))
def test_a_pipe_has_the_lines_of_its_bytes(pieces: list[bytes]) -> None:
    expected = b"".join(pieces).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not expected[-1]:
        expected.pop()
    found = anyio.run(_piped, pieces)
    # A mark alone in a first line leaves an empty one.
    assert [line for line in found if line] == [line for line in expected if line]


@pytest.mark.anyio
async def test_a_pipe_is_waited_for_without_blocking_the_loop() -> None:
    reading, writing = os.pipe()
    lines = PipeLines(reading)
    try:
        os.write(writing, b"a\nb")
        assert await anext(lines) == b"a"
        with anyio.move_on_after(0.02) as scope:
            await anext(lines)
        assert scope.cancelled_caught
        os.write(writing, b"c\n")
        assert await anext(lines) == b"bc"
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.anyio
async def test_what_an_event_loop_cannot_watch(tmp_path: Path) -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        assert [line async for line in PipeLines(descriptor)] == []
    finally:
        os.close(descriptor)
    (tmp_path / "in").write_bytes(b"a\nb")
    descriptor = os.open(tmp_path / "in", os.O_RDONLY)
    try:
        assert [line async for line in PipeLines(descriptor)] == [b"a", b"b"]
    finally:
        os.close(descriptor)


def test_standard_input_is_a_pipe() -> None:
    assert InputFile("-").is_pipe
