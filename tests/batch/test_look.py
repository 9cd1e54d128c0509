"""The look at the input before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from penstock.batch.journal import Journal
from penstock.batch.lines import InputFile
from penstock.batch.look import ASK, CHANGED, DONE, DUPLICATE, INVALID, Look, Sorter, check, look_at
from penstock.batch.rows import Params, row_of_line
from penstock.batch.stops import NotStarted

from .support import line

NOTHING = Params()


def look(tmp_path: Path, data: bytes, journal: Journal | None = None, keep: bool = False) -> Look:
    path = tmp_path / "in.jsonl"
    path.write_bytes(data)
    sorter = Sorter(journal or Journal(), NOTHING, "keep" if keep else "stop")
    return anyio.run(look_at, InputFile(str(path)), sorter)


def test_rows_to_ask(tmp_path: Path) -> None:
    found = look(tmp_path, line(1) + b"\r\n" + line(2).replace(b"\n", b"\r\n") + line(3)[:-1])
    assert (found.rows, found.to_ask, found.done, found.bad) == (3, 3, 0, 0)


def test_what_becomes_of_rows(tmp_path: Path) -> None:
    journal = Journal()
    for number in (1, 2):
        row = row_of_line(line(number), NOTHING)
        journal.add(row.custom_id, row.id)
    changed = line(2, body={"model": "other"})
    data = b"".join([line(1), changed, line(3), b"{}\n", line(3), line(1), line(4)])
    found = look(tmp_path, data, journal)
    assert list(found.fates) == [DONE, CHANGED, ASK, INVALID, DUPLICATE, DUPLICATE, ASK]
    assert (found.rows, found.done, found.to_ask, found.matched) == (7, 1, 2, 2)
    assert [detail.partition(":")[0] for detail in found.details] == [
        "line 2 (custom_id 'row 2')",
        "line 4",
        "line 5 (custom_id 'row 3')",
        "line 6 (custom_id 'row 1')",
    ]


def test_changed_rows_may_keep_their_answer(tmp_path: Path) -> None:
    journal = Journal()
    journal.add("row 1", "penstock-0")
    found = look(tmp_path, line(1), journal, keep=True)
    assert list(found.fates) == [DONE]


def test_the_first_ten_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    found = look(tmp_path, b"".join(b"{%d\n" % number for number in range(25)) + line(1))
    with pytest.raises(NotStarted, match=r"25 rows of in\.jsonl cannot be asked") as raised:
        check(found, Journal(), "in.jsonl", "out.jsonl", skip_invalid=False)
    assert len(raised.value.details) == 11
    assert raised.value.details[0].startswith("line 1: not JSON")
    assert raised.value.details[9].startswith("line 10: ")
    assert raised.value.details[10] == "and 15 more"
    check(found, Journal(), "in.jsonl", "out.jsonl", skip_invalid=True)


def test_an_output_of_another_input(tmp_path: Path) -> None:
    journal = Journal()
    journal.add("row 9", "penstock-0")
    with pytest.raises(NotStarted, match=r"out\.jsonl has 1 answers, none of them to a row"):
        check(look(tmp_path, line(1), journal), journal, "in", "out.jsonl", skip_invalid=False)
    check(look(tmp_path, line(1) + line(9), journal, keep=True), journal, "i", "o",
          skip_invalid=False)  # fmt: skip


def test_a_long_custom_id_is_shown_in_part(tmp_path: Path) -> None:
    found = look(tmp_path, json.dumps({"custom_id": "x" * 10_000}).encode())
    assert len(found.details[0]) < 200
