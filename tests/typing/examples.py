"""Type-checks the Python examples of the README and of the documentation.

`python -m tests.typing.examples` runs mypy, then pyright, on all pages, or on those named. The
blocks of a page build on each other, so a page is one module. Its lines are those of the page,
with nothing in place of the prose: the checkers' reports give the page's own line numbers.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]

# Examples are code as a user writes it, so no annotations are asked for. The blocks of a page
# define `main` again and again, and their loops are known to run.
MYPY = """
[mypy]
mypy_path = {root}/src
check_untyped_defs = True
disable_error_code = no-redef, var-annotated
allow_redefinition = True
ignore_missing_imports = True
cache_dir = {root}/.mypy_cache/examples
"""
PYRIGHT = {
    "typeCheckingMode": "standard",
    "pythonVersion": "3.12",
    "reportRedeclaration": False,
    "reportMissingImports": False,
    "reportMissingModuleSource": False,
    "reportPossiblyUnboundVariable": False,
    "extraPaths": [str(ROOT / "src")],
}


# Pages whose types are those of other packages: the OpenAI SDK's refuse messages that are plain
# dicts, and the frameworks are not installed here.
LEFT_OUT = {"openai-sdk.md", "frameworks"}


def pages() -> list[Path]:
    """The README and every page with an example, but for those left out."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs" / "pages").rglob("*.md"))]
    found = [page for page in found if not {page.name, page.parent.name} & LEFT_OUT]
    return [page for page in found if "\n```python\n" in page.read_text(encoding="utf-8")]


def module(page: str) -> str:
    """The examples of a page as one module that has its line numbers."""
    lines: list[str] = []
    inside = False
    for line in page.splitlines():
        fence = line.startswith("```")
        if fence:
            inside = line == "```python" and not inside
        lines.append(line if inside and not fence else "")
    return "\n".join(lines) + "\n"


def write(folder: Path, chosen: Iterable[Path]) -> dict[str, str]:
    """Write the modules; return which page each is of."""
    names: dict[str, str] = {}
    for page in chosen:
        shown = page.relative_to(ROOT).as_posix()
        name = "page_" + re.sub(r"\W", "_", shown.removesuffix(".md")) + ".py"
        (folder / name).write_text(module(page.read_text(encoding="utf-8")), encoding="utf-8")
        names[name] = shown
    (folder / "mypy.ini").write_text(MYPY.format(root=ROOT), encoding="utf-8")
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT), encoding="utf-8")
    return names


def check(folder: Path, names: dict[str, str], command: list[str]) -> int:
    """Run a checker in the folder; print its report with the pages' names."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    report = (done.stdout + done.stderr).replace(f"{folder}/", "")
    for name, page in names.items():
        report = report.replace(name, page)
    print(report, end="")
    return done.returncode


def main() -> int:
    """Check; return the exit status."""
    parser = argparse.ArgumentParser(description="Type-check the examples of the documentation.")
    parser.add_argument("pages", nargs="*", type=Path, help="Markdown files (default: all)")
    chosen = [page.resolve() for page in parser.parse_args().pages] or pages()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        names = write(folder, chosen)
        mypy = check(folder, names, ["mypy", "--config-file=mypy.ini", *names])
        pyright = check(folder, names, ["pyright", f"--pythonpath={sys.executable}"])
    return mypy or pyright


if __name__ == "__main__":
    sys.exit(main())
