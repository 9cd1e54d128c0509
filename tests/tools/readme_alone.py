"""Run the README's Python blocks with nothing installed but penstock: nox --session package.

    python tests/tools/readme_alone.py

One block after the other, as they build on each other, against a scripted server on loopback. Only
the standard library and the installed package are used, so that a missing dependency shows.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import penstock
from penstock.testing import (
    RecordedRequest,
    Reply,
    completion,
    json_reply,
    serve_in_thread,
    sse_reply,
    tokens,
)

README = Path(__file__).parents[2] / "README.md"


def answer(request: RecordedRequest) -> Reply:
    """Answer as a provider would: a value if a schema is asked for, else a few words."""
    if "response_format" in request.json:
        return json_reply(completion('{"name": "Paris", "inhabitants": 2100000}'))
    if request.json.get("stream"):
        return sse_reply(tokens("Hello", " there", "!"))
    return json_reply(completion("Hello there!"))


def main() -> None:
    """Run all blocks, and write what each printed. A block that prints nothing says so."""
    assert "src" not in Path(penstock.__file__).parts, f"not the wheel: {penstock.__file__}"
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.M | re.S)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with serve_in_thread(answer) as server:
        os.environ |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "a-key"}
        for number, block in enumerate(blocks, 1):
            with redirect_stdout(StringIO()) as printed:
                name = f"README.md, block {number}"
                exec(compile(block, name, "exec", dont_inherit=True), namespace)
            sys.stdout.write(f"{number}: {printed.getvalue().strip()!r}\n")
    assert len(blocks) >= 9, "README.md has lost its examples"


if __name__ == "__main__":
    main()
