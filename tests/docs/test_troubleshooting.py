"""Every error that a user can meet has its line on the page that explains them."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock import errors

PAGE = Path(__file__).parents[2] / "docs" / "pages" / "topics" / "troubleshooting.md"

# Classes that have subclasses for each case, and what a race raises.
GENERAL = {"PenstockError", "APIStatusError", "APITimeoutError", "AllAttemptsFailed"}


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - GENERAL))
def test_an_error_has_its_line(name: str) -> None:
    if isinstance(getattr(errors, name), type):
        assert f"| `{name}`" in PAGE.read_text(encoding="utf-8")
