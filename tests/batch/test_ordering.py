"""Sorting an output file as its input is."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import anyio
import pytest

from penstock.batch.lines import InputFile
from penstock.batch.ordering import positions_of, sort_output
from penstock.batch.writing import WriteFailed

from .support import line, write_rows


def output(custom_id: str | None) -> bytes:
    return json.dumps({"custom_id": custom_id, "response": {}, "error": None}).encode() + b"\n"


def sort(tmp_path: Path) -> None:
    async def both() -> None:
        positions = await positions_of(InputFile(str(tmp_path / "in")))
        await sort_output(str(tmp_path / "out"), positions)

    anyio.run(both)


def names(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]


def test_lines_come_in_the_order_of_the_input(tmp_path: Path) -> None:
    numbers = list(range(700))
    write_rows(tmp_path / "in", numbers)
    random.Random(5).shuffle(numbers)
    path = tmp_path / "out"
    path.write_bytes(b"".join(output(f"row {number}") for number in numbers[:500]))
    path.chmod(0o640)
    sort(tmp_path)
    assert names(path) == [f"row {number}" for number in sorted(numbers[:500])]
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]  # noqa: PTH208


def test_what_is_sorted_is_not_written_anew(tmp_path: Path) -> None:
    write_rows(tmp_path / "in", range(5))
    path = tmp_path / "out"
    path.write_bytes(b"".join(output(f"row {number}") for number in (0, 2, 3)) + output("x"))
    before = path.stat()
    sort(tmp_path)
    assert path.stat().st_ino == before.st_ino


def test_lines_of_other_rows_come_last_and_none_is_lost(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(line(1) + b"{\n" + line(2) + line(1))
    (tmp_path / "out").write_bytes(
        b"".join(map(output, ["x", "row 2", None, "row 1", "row 2", "y"]))
    )
    sort(tmp_path)
    assert names(tmp_path / "out") == ["row 1", "row 2", "row 2", "x", None, "y"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    write_rows(tmp_path / "in", range(2))
    (tmp_path / "real").write_bytes(output("row 1") + output("row 0"))
    (tmp_path / "out").symlink_to("real")
    sort(tmp_path)
    assert (tmp_path / "out").is_symlink()
    assert names(tmp_path / "real") == ["row 0", "row 1"]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    write_rows(tmp_path / "in", range(2))
    data = output("row 1") + output("row 0")
    (tmp_path / "out").write_bytes(data)
    (tmp_path / "out.ordered").mkdir()
    with pytest.raises(WriteFailed, match="cannot sort"):
        sort(tmp_path)
    assert (tmp_path / "out").read_bytes() == data
