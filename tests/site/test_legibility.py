"""Every page is readable on a phone and on a laptop, in both colours, and with a screen reader.

The screenshots are for people: PENSTOCK_SCREENSHOTS names their folder.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from .conftest import SITE, Open

PAGES = sorted(
    path.parent.relative_to(SITE).as_posix().replace(".", "") + "/"
    for path in SITE.rglob("index.html")
)
SEEN = [
    "/", "tutorial/", "how-to/batch/", "topics/evidence/", "topics/speed/", "frameworks/",
    "frameworks/langchain/", "reference/client/", "reference/errors/",
]  # fmt: skip

SIDEWAYS = """() => document.documentElement.scrollWidth - document.documentElement.clientWidth"""

# Pictures that are shown much smaller than they were drawn, letters and all.
SMALL_PICTURES = """() => [...document.querySelectorAll('.md-typeset img')]
    .filter(image => image.naturalWidth > 560 && image.clientWidth < 0.65 * image.naturalWidth)
    .map(image => image.src)"""

SMALL_TABLES = """() => [...document.querySelectorAll('.md-typeset td')]
    .filter(cell => cell.innerText && parseFloat(getComputedStyle(cell).fontSize) < 11
        || cell.innerText.length > 12 && cell.clientWidth < 60)
    .map(cell => cell.innerText)"""

# The rules of WCAG 2.2, levels A and AA.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


# axe-core, as the wheel of its wrapper carries it.
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1366, "light"), (390, "dark")])
def test_a_page_is_legible(visit: Open, path: str, width: int, scheme: str) -> None:
    page = visit(path.lstrip("/"), width=width, scheme=scheme)
    assert page.evaluate(SIDEWAYS) <= 0
    assert page.evaluate(SMALL_PICTURES) == []
    assert page.evaluate(SMALL_TABLES) == []
    page.evaluate(AXE)
    options = {"runOnly": RULES, "resultTypes": ["violations"]}
    found: dict[str, Any] = page.evaluate("options => axe.run('main', options)", options)
    violations = {
        each["id"]: [node["html"][:200] for node in each["nodes"][:3]]
        for each in found["violations"]
    }
    assert not violations


@pytest.mark.parametrize("path", SEEN)
@pytest.mark.parametrize("width", [1366, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots(visit: Open, tmp_path: Path, path: str, width: int, scheme: str) -> None:
    page = visit(path.lstrip("/"), width=width, scheme=scheme)
    folder = Path(os.environ.get("PENSTOCK_SCREENSHOTS", tmp_path))
    name = path.strip("/").replace("/", "-") or "index"
    shot = folder / f"{name}-{width}-{scheme}.png"
    page.screenshot(path=shot, full_page=True, timeout=60_000)
    assert shot.stat().st_size > 10_000
