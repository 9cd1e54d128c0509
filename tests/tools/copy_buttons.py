"""Leave the copy button only on blocks of the built documentation that run by themselves.

    python -m tests.tools.copy_buttons

A command does, and so does a Python block that defines or imports every name that it uses. A
signature, an output, or a block that goes on from the one before it does not.
"""

from __future__ import annotations

import ast
import builtins
import html
import re
from pathlib import Path

__all__ = ["runs_by_itself", "without_buttons"]

SITE = Path(__file__).parents[2] / "docs" / "site"
BLOCK = re.compile(
    r'<div class="(?P<classes>[^"]*\bhighlight)">(?P<code>.*?</code></pre>)</div>', re.DOTALL
)


def runs_by_itself(code: str) -> bool:
    """Return whether the Python code binds all names that it uses."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return False
    bound, used = set(vars(builtins)) | {"__name__"}, set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound |= {(each.asname or each.name).split(".")[0] for each in node.names}
        elif (isinstance(node, ast.ExceptHandler) and node.name) or (
            isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name
        ):
            bound.add(node.name)
    return used <= bound


def without_buttons(page: str) -> str:
    """Return the page's HTML, with `no-copy` on each block that does not run by itself."""

    def marked(block: re.Match[str]) -> str:
        classes, code = block["classes"], block["code"]
        kinds = set(classes.split())
        text = html.unescape(re.sub(r"<[^>]*>", "", code))
        command = "language-sh" in kinds
        program = "language-python" in kinds and "doc-signature" not in kinds
        if command or (program and runs_by_itself(text)):
            return block[0]
        return f'<div class="{classes} no-copy">{code}</div>'

    return BLOCK.sub(marked, page)


if __name__ == "__main__":
    for path in SITE.rglob("*.html"):
        path.write_text(without_buttons(path.read_text(encoding="utf-8")), encoding="utf-8")
