"""Rows, files and scripted answers for the tests of jobs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from penstock.testing.replies import completion, json_reply

OK = json_reply(completion("Hello"))


def body(number: int | str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": f"{number}"}], **more}


def line(number: int | str, **changes: Any) -> bytes:
    members = {
        "custom_id": f"row {number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body(number),
        **changes,
    }
    return json.dumps(members).encode() + b"\n"


def write_rows(path: Path, rows: Iterable[int]) -> Path:
    path.write_bytes(b"".join(map(line, rows)))
    return path


def number_of(request: Any) -> int:
    return int(request.json["messages"][0]["content"])


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of an output file, all of which must be whole."""
    data = path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()] if data else []


def answered(path: Path) -> list[int]:
    """Return the numbers of the rows that have an answer, in the order of the file."""
    found = lines_of(path)
    assert all(list(each) == ["id", "custom_id", "response", "error"] for each in found)
    assert all(each["response"]["status_code"] == 200 and not each["error"] for each in found)
    return [int(each["custom_id"].removeprefix("row ")) for each in found]
