"""A conversation: in memory, in a file, and refused where the file is none."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import ChatCompletion
from penstock.cli.history import History
from penstock.cli.run import UsageError
from penstock.testing.replies import completion

TEXT = st.text(min_size=1, max_size=8)


def answered(text: str) -> ChatCompletion:
    return msgspec.convert(completion(text), ChatCompletion)


@given(
    turns=st.lists(st.tuples(TEXT, TEXT), max_size=4), system=st.none() | TEXT, cut=st.booleans()
)
def test_a_file_remembers_what_memory_does(
    turns: list[tuple[str, str]],
    system: str | None,
    cut: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = str(tmp_path_factory.mktemp("history") / "talk.jsonl")
    memory, file = History(None, system), History(path, system)
    for prompt, text in turns:
        for history in (memory, file):
            history.add(prompt, answered(text))
        if cut:  # the program ends, and goes on later
            file = History(path, system)
        assert file.with_prompt("next") == memory.with_prompt("next")
    expected = [] if system is None else [{"role": "system", "content": system}]
    for prompt, text in turns:
        expected += [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": text},
        ]
    assert [(each["role"], each["content"]) for each in file.with_prompt("next")[:-1]] == [
        (each["role"], each["content"]) for each in expected
    ]


def test_a_system_prompt_comes_before_what_was_said(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    History(str(path), None).add("hi", answered("ho"))
    again = History(str(path), "be brief")
    assert [each["role"] for each in again.with_prompt("x")] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert json.loads(path.read_text().splitlines()[0])["role"] == "system"


@pytest.mark.parametrize("content", [b"{", b"[]\n", b'{"content": "x"}\n', b"\xff\n"])
def test_a_file_that_is_none_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="talk"):
        History(str(path), None)
    assert path.read_bytes() == content


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="Unix has a device without an end")
def test_a_device_is_not_read() -> None:
    with pytest.raises(UsageError, match=r"^cannot read /dev/zero: it is not a file$"):
        History("/dev/zero", None)


def test_a_folder_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot"):
        History(str(tmp_path / "missing" / "talk.jsonl"), "be brief")
