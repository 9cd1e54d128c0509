"""Every error that a user can meet has its line on the page that explains them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock import errors

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pages" / "topics" / "troubleshooting.md"
HTTP = ROOT / "src" / "penstock" / "_http"

# Classes that have subclasses for each case, and what a race raises.
GENERAL = {"PenstockError", "APIStatusError", "APITimeoutError", "AllAttemptsFailed"}


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - GENERAL))
def test_an_error_has_its_line(name: str) -> None:
    if isinstance(getattr(errors, name), type):
        assert f"| `{name}`" in PAGE.read_text(encoding="utf-8")


def test_the_messages_are_those_of_the_source() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("### What the message")[2]
    rows = re.findall(r"^\| (`.*?) \| ", section.partition("\n## ")[0], re.M)
    messages = [text for row in rows for text in re.findall(r"`([^`]*)`", row)]
    assert len(messages) >= 9
    source = "".join(path.read_text(encoding="utf-8") for path in HTTP.glob("*.py"))
    for message in messages:
        # Names are put in where the source has a field.
        start = message.removesuffix(" HOST").removesuffix(" the proxy").removeprefix("SSL_CERT_")
        assert start.removeprefix("FILE").removeprefix("DIR") in source, message
