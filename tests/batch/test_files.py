"""The names of a job's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.batch.files import Names, errors_path
from penstock.batch.stops import NotStarted


@pytest.mark.parametrize(
    ("output", "errors"),
    [
        ("out.jsonl", "out.errors.jsonl"),
        ("out", "out.errors"),
        ("a/b.c/out.tar.jsonl", "a/b.c/out.tar.errors.jsonl"),
        (".hidden", ".hidden.errors"),
        ("-", "-"),
        ("/dev/null", "/dev/null"),
    ],
)
def test_failures_go_beside_the_output(output: str, errors: str) -> None:
    assert errors_path(output) == errors


def test_one_file_is_not_two(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"")
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "hard").hardlink_to(tmp_path / "in")
    given, new = str(tmp_path / "in"), str(tmp_path / "new")
    for output in (given, str(tmp_path / "link"), str(tmp_path / "hard")):
        with pytest.raises(NotStarted, match="cannot be both"):
            Names.checked(given, output, None, ordered=False)
        with pytest.raises(NotStarted, match="cannot be both"):
            Names.checked(given, new, output, ordered=False)
    with pytest.raises(NotStarted, match="cannot be both"):
        Names.checked(given, new, new, ordered=False)
    assert Names.checked(given, new, None, ordered=True).errors == f"{new}.errors"
    assert Names.checked("-", "-", None, ordered=False) == Names("-", "-", "-")


def test_what_an_output_cannot_be() -> None:
    with pytest.raises(NotStarted, match="only the input"):
        Names.checked("in", "out.jsonl.gz", None, ordered=False)
    with pytest.raises(NotStarted, match="--ordered"):
        Names.checked("in", "-", None, ordered=True)
