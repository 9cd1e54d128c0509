"""Which blocks of the documentation keep their copy button."""

from __future__ import annotations

import pytest

from tests.tools.copy_buttons import runs_by_itself, without_buttons


@pytest.mark.parametrize("code", [
    "import penstock\nprint(penstock.Timeouts())",
    "from a.b import c as d\n\nasync def main(x, *args, **kwargs):\n    return d(x, args, kwargs)",
    "try:\n    1\nexcept ValueError as error:\n    print(error)",
    "match 1:\n    case [first, *rest]:\n        print(first, rest)",
    "for x in range(3):\n    with open(str(x)) as file:\n        print(file, [y for y in 'ab'])",
])  # fmt: skip
def test_a_program_runs_by_itself(code: str) -> None:
    assert runs_by_itself(code)


@pytest.mark.parametrize("code", ["print(client)", "async with client: ...", "f(x: int) -> str"])
def test_a_part_of_one_does_not(code: str) -> None:
    assert not runs_by_itself(code)


def block(classes: str, code: str) -> str:
    return f'<div class="{classes} highlight"><pre><code>{code}</code></pre></div>'


@pytest.mark.parametrize(("classes", "code", "kept"), [
    ("language-sh", "penstock demo", True),
    ("language-python", 'print(<span class="s">&quot;a&quot;</span>)', True),
    ("language-python", "print(<span>client</span>)", False),
    ("language-python doc-signature", "print", False),
    ("language-text", "Hello", False),
])  # fmt: skip
def test_a_block_is_marked_by_what_it_is(classes: str, code: str, kept: bool) -> None:
    page = f"<p>before</p>{block(classes, code)}<p>after</p>"
    marked = page if kept else page.replace(" highlight", " highlight no-copy")
    assert without_buttons(page) == marked
