"""What the examples of the documentation run against: a server, an environment, a `print`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack, chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest import mock

from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from penstock.testing.replies import (
    completion,
    error_reply,
    json_reply,
    sse_event,
    sse_reply,
    status_reply,
    tokens,
)
from penstock.testing.script import End, Pause, Stall
from penstock.testing.server import serve_in_thread

if TYPE_CHECKING:
    from sybil import Example

    from penstock.testing.script import RecordedRequest, Reply

WORDS = ("Hello", " there", "!")
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
PROVIDERS = ("OPENAI", "PARETA", "ORUEL", "TENSORAS")


class Script:
    """The server's answers: `next_answer` once, if a page has set it, else the usual ones."""

    def __init__(self) -> None:
        self.next_answer: Reply | None = None
        self.answers: list[Reply] = []
        """Further answers, in their order, for a page whose example asks several times."""
        self.requests: list[RecordedRequest] = []

    def __call__(self, request: RecordedRequest) -> Reply:
        self.requests.append(request)
        if request.target.endswith("/models"):
            models = [{"id": "gpt-5-mini", "object": "model", "created": 1, "owned_by": "openai"}]
            return json_reply({"object": "list", "data": models})
        answer, self.next_answer = self.next_answer, None
        if answer is None and self.answers:
            answer = self.answers.pop(0)
        if answer is not None:
            return answer
        if not request.json.get("stream"):
            return json_reply(completion("".join(WORDS), usage=USAGE))
        asked = request.json.get("stream_options") or {}
        return sse_reply(tokens(*WORDS, usage=USAGE if asked.get("include_usage") else None))


class Examples:
    """The surroundings of one page's examples: `setup` and `teardown` for Sybil."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def setup(self, namespace: dict[str, Any]) -> None:
        """Start the server, and give the page's hidden code its names."""

        def record(*values: object, sep: str = " ", end: str = "\n", flush: bool = False) -> None:
            namespace["printed"] += sep.join(map(str, values)) + end

        script = Script()
        server = self._stack.enter_context(serve_in_thread(script))
        settings = {f"{name}_BASE_URL": server.base_url for name in PROVIDERS}
        settings |= {f"{name}_API_KEY": "a-key" for name in PROVIDERS}
        settings |= {"NO_PROXY": "127.0.0.1"}
        self._stack.enter_context(mock.patch.dict(os.environ, settings))
        namespace |= {
            "server": script,
            "print": record,
            "printed": "",
            "error_reply": error_reply,
            "tool_call": tool_call,
            "text_answer": text_answer,
            "slow_answer": slow_answer,
            "cut_answer": cut_answer,
            "stalled_answer": stalled_answer,
            "unfinished_answer": unfinished_answer,
            "named_events": named_events,
            "status_reply": status_reply,
            "text_completion": text_completion,
            "in_a_new_folder": self._in_a_new_folder,
            "tests_pass": tests_pass,
        }

    def _in_a_new_folder(self) -> None:
        """For a page whose examples write files."""
        folder = self._stack.enter_context(TemporaryDirectory())
        self._stack.enter_context(chdir(folder))

    def teardown(self, namespace: dict[str, Any]) -> None:
        """Stop the server and restore the environment."""
        self._stack.close()


_run_python = PythonEvaluator()


def _run(example: Example) -> None:
    """Run one block; before a visible one, forget what was printed."""
    if example.document.text.startswith("```", example.start):
        example.namespace["printed"] = ""
    example.namespace["page"] = example.document.text
    _run_python(example)


python_blocks = CodeBlockParser("python", _run)


def run_page(page: Path) -> None:
    """Run all examples of a page, in their order; an error says where its example is."""
    document = Sybil(parsers=[python_blocks]).parse(page)
    examples = Examples()
    examples.setup(document.namespace)
    try:
        for example in document.examples():
            try:
                example.evaluate()
            except BaseException as error:
                error.add_note(f"in the example at {page}:{example.line}")
                raise
    finally:
        examples.teardown(document.namespace)


def tests_pass(page: str, count: int) -> None:
    """The examples of a page are one test file, but for those that run something themselves."""
    blocks = re.findall("^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    tests = [block for block in blocks if "anyio.run(" not in block]
    Path("test_page.py").write_text("\n\n".join(tests), encoding="utf-8")
    plugins = [f"-pno:{name}" for name in ("xdist", "timeout", "hypothesispytest")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-q", "test_page.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"\n{count} passed" in done.stdout, done.stdout


def slow_answer(seconds: float) -> Reply:
    """The usual answer, with a pause before each chunk."""
    events: list[Any] = []
    for event in tokens(*WORDS):
        events += [Pause(seconds), event]
    return sse_reply(events)


def text_answer(text: str, finish: str = "stop") -> Reply:
    """An answer of this text, in two pieces."""
    middle = len(text) // 2
    return sse_reply(tokens(text[:middle], text[middle:], finish=finish))


def cut_answer() -> Reply:
    """An answer whose connection ends in the middle of it."""
    return sse_reply([*tokens(*WORDS[:2], finish=None), End()], done=False)


def stalled_answer() -> Reply:
    """An answer that stops in the middle, and a server that says nothing more."""
    return sse_reply([*tokens(*WORDS[:2], finish=None), Stall()], done=False)


def unfinished_answer() -> Reply:
    """An answer whose body ends as it should, before the answer does."""
    return sse_reply(tokens(*WORDS, finish=None), done=False)


def named_events(*payloads: dict[str, Any]) -> Reply:
    """Events that have the `type` of their payload as their name, as other APIs send them."""
    events = [f"event: {payload['type']}\n".encode() + sse_event(payload) for payload in payloads]
    return sse_reply(events, done=False)


def text_completion(*texts: str) -> Reply:
    """A streamed answer of the endpoint for text completions."""
    pieces = [
        {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
        for choice in (
            *({"index": 0, "text": text, "finish_reason": None} for text in texts),
            {"index": 0, "text": "", "finish_reason": "length"},
        )
    ]
    return sse_reply(pieces)


def tool_call(name: str, arguments: str) -> Reply:
    """A call of a tool, its arguments in two pieces."""
    first, *_, last = tokens(model="gpt-5-mini", finish="tool_calls")
    middle = len(arguments) // 2
    function = {"name": name, "arguments": ""}
    deltas: list[dict[str, Any]] = [
        {"index": 0, "id": "call_1", "type": "function", "function": function},
        {"index": 0, "function": {"arguments": arguments[:middle]}},
        {"index": 0, "function": {"arguments": arguments[middle:]}},
    ]
    pieces = [
        {**first, "choices": [{**first["choices"][0], "delta": {"tool_calls": [delta]}}]}
        for delta in deltas
    ]
    return sse_reply([first, *pieces, last])
