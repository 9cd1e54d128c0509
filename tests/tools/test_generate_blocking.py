"""The tool that writes the blocking twin: what it takes over, what it keeps, what is left out."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from . import generate_blocking
from .generate_blocking import MODULES, Module, Twin, Writer, names, renamed, without_async

SOURCE = '''\
"""The source."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, overload

from ..types import Answer
from .near import Near


class Things:
    """`async with` and `aclose()` of AsyncClient."""

    __slots__ = ("_x",)

    def __init__(self, near: Near) -> None:
        self._x = near
        self.inner: Inner = Inner(near)
        """What is inside."""

    @overload
    async def get(self, *, a: int) -> Answer: ...

    @overload
    async def get(self, *, a: str) -> Answer: ...

    async def get(self, *, a: Any, **params: Any) -> Answer:
        """Cancelled, it loses nothing."""
        return await self._x.get(a)

    async def put(self, x: int, y: int = 2) -> None:
        """Put."""
        await self._x.put(x, y)

    def open(self, path: str) -> CompletionStream:
        """A stream."""
        return self._x.open(path)

    @property
    def known(self) -> int:
        """A number."""
        return 1

    async def _hidden(self) -> None:
        pass


class Inner:
    """Inside."""

    async def go(self) -> AsyncIterator[int]:
        """Go."""
        return self.it
'''
KEPT = '''\
"""The twin."""


class Things:
    async def get(self):
        # own docstring
        """Ctrl-C ends it."""
        # own body
        return mine(self, a)
'''


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(generate_blocking, "ROOT", tmp_path)
    (tmp_path / "source.py").write_text(SOURCE)
    (tmp_path / "twin.py").write_text(KEPT)
    twins = (Twin("Things", "Things", bases="Resource"), Twin("Inner", "Inner", bases="Resource"))
    module = Module("twin.py", ("source.py",), twins)
    monkeypatch.setattr(generate_blocking, "MODULES", (*MODULES, module))
    text = Writer(module).text()
    ast.parse(text)
    return text


def test_signatures_and_docstrings_are_taken_over(written: str) -> None:
    assert '"""`with` and `close()` of Client."""' in written
    assert written.count("@overload\n    def get(self, *, a: ") == 2
    assert "def put(self, x: int, y: int = 2) -> None:" in written
    assert "def go(self) -> Iterator[int]:" in written
    assert "async" not in written.replace("self._async", "")
    assert "_hidden" not in written


def test_what_a_method_does(written: str) -> None:
    assert "        self._run(lambda: self._async.put(x, y))\n" in written
    assert "        return Stream(self._loop, self._async.open(path))\n" in written
    assert "        answer: int = self._async.known\n" in written
    assert "answer: Iterator[int] = self._run(lambda: self._async.go())" in written


def test_resources_are_made_with_their_docstrings(written: str) -> None:
    assert (
        "        self.inner: Inner = Inner(self._loop, self._async.inner)\n"
        '        """What is inside."""\n' in written
    )
    assert "__slots__ = ('inner',)" in written


def test_own_text_is_kept(written: str) -> None:
    assert written.count('"""The twin."""') == 1
    assert '        # own docstring\n        """Ctrl-C ends it."""\n' in written
    assert "        # own body\n        return mine(self, a)\n" in written
    assert "Cancelled" not in written


def test_only_what_is_used_is_imported(written: str) -> None:
    assert "from ..types import Answer\n" in written
    assert "from collections.abc import Iterator\n" in written
    assert "Near" not in written


def test_code_without_async() -> None:
    text = (
        "async def f():\n    async with a as b, c:\n        return await (await d()), 'await e'\n"
    )
    assert without_async(text) == "def f():\n    with a as b, c:\n        return (d()), 'await e'\n"
    assert renamed("Callable[[T], Awaitable[R]]") == "Callable[[T], R]"


def test_tests_that_need_an_event_loop_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate_blocking, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "source.py").write_text(
        '"""Tests."""\nimport anyio\nONE = 1\nTWO = ONE + 1\nFOUR = 4\n'
        "async def wait():\n    await anyio.sleep(1)\n"
        "async def helper():\n    return TWO\n"
        "async def test_waits():\n    await wait()\n"
        "async def test_named():\n    pass\n"
        "async def test_kept():\n    assert await helper() == 2\n"
    )
    module = Module("tests/twin.py", ("tests/source.py",), left_out=names("test_named"))
    text = Writer(module).text()
    ast.parse(text)
    assert "test_waits" not in text
    assert "test_named" not in text
    assert "FOUR" not in text
    assert "anyio" not in text
    assert "ONE = 1\n\n\nTWO = ONE + 1\n\n\ndef helper():\n    return TWO\n" in text


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.target)
def test_what_is_written_is_up_to_date(module: Module) -> None:
    # Formatting aside, which is ruff's: `nox --session lint` compares the text itself.
    writer = Writer(module)

    def code(text: str) -> str:
        tree = ast.parse(text)
        imports = (ast.Import, ast.ImportFrom, ast.If)  # ruff sorts them
        tree.body = [node for node in tree.body if not isinstance(node, imports)]
        return ast.dump(tree)

    assert code(writer.text()) == code(writer.old.text), "run: nox --session blocking"


def test_names_of_annotations_are_told_from_those_that_run() -> None:
    code = "def f(a: A) -> B:\n    c: C = D()\n    return E[F](a, c)\n"
    assert generate_blocking.runtime_names(ast.parse(code)) >= {"D", "E", "F"}
    assert not generate_blocking.runtime_names(ast.parse(code)) & {"A", "B", "C"}
