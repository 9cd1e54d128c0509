"""Whole lines, locks, and lines that are taken back."""

from __future__ import annotations

import fcntl
import os
import resource
from pathlib import Path

import pytest

from penstock.batch.stops import NotStarted
from penstock.batch.writing import LineFile, WriteFailed


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "out"
    file = LineFile(str(path))
    assert not file.open(create=False)
    assert file.open(create=True)
    file.append(b"a\n")
    file.append(b"b\n")
    file.sync()
    assert file.size == 4
    file.close()
    file.close()
    assert path.read_bytes() == b"a\nb\n"
    assert file.open(create=False)
    file.cut(2)
    file.append(b"c\n")
    file.close()
    assert path.read_bytes() == b"a\nc\n"


def test_one_run_has_it(tmp_path: Path) -> None:
    first, second = (LineFile(str(tmp_path / "out")) for _ in range(2))
    first.open(create=True)
    with pytest.raises(NotStarted, match="in use by another run"):
        second.open(create=True)
    first.close()
    assert second.open(create=True)
    second.close()


def test_a_file_replaced_before_it_was_locked_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, new = tmp_path / "out", tmp_path / "out.ordered"
    path.write_bytes(b"b\na\n")
    new.write_bytes(b"a\nb\n")
    flock = fcntl.flock

    def slow(descriptor: int, operation: int) -> None:
        new.replace(path)  # another run sorts it, and ends
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    file = LineFile(str(path))
    with pytest.raises(NotStarted, match="in use by another run"):
        file.open(create=False)
    assert not file.is_open


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="no such directory"):
        LineFile(str(tmp_path / "none" / "out")).open(create=True)
    with pytest.raises(NotStarted):
        LineFile(str(tmp_path)).open(create=True)


def test_a_device_is_neither_read_nor_locked() -> None:
    files = [LineFile(os.devnull) for _ in range(2)]
    for file in files:
        assert file.open(create=True)
        file.append(b"a\n")
        file.sync()
        assert file.size == 0
    for file in files:
        file.close()


def test_a_full_device() -> None:
    file = LineFile("/dev/full")
    file.open(create=True)
    with pytest.raises(WriteFailed, match="cannot write to /dev/full: No space left"):
        file.append(b"a\n")
    file.close()


def test_a_torn_line_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "out"
    file = LineFile(str(path))
    file.open(create=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        for _ in range(6):
            file.append(b"x" * 149 + b"\n")
        with pytest.raises(WriteFailed, match="File too large"):
            file.append(b"x" * 149 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    file.close()
    assert path.read_bytes() == (b"x" * 149 + b"\n") * 6


def test_a_reader_that_left(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = LineFile(str(path))
    file.open(create=True)
    file.append(b"a\n")
    assert os.read(reader, 10) == b"a\n"
    os.close(reader)
    with pytest.raises(WriteFailed, match="has left") as raised:
        file.append(b"b\n")
    assert raised.value.reader_left
    file.close()
