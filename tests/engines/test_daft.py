"""A column of a Daft data frame, completed."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import daft
import pytest

import penstock
from penstock.engines.columns import answer_type
from penstock.engines.daft import complete
from penstock.testing.replies import completion, error_reply, json_reply
from penstock.testing.script import Pause, RecordedRequest, Reply, Reset, reply
from penstock.testing.server import Server, serve_in_thread
from tests.support.blocking import run_program

from .support import OK, checked, echo

FAULTS = [error_reply(500), reply(OK.data[:-20], Reset()), reply(Reset()), json_reply(None)]


class Faulty:
    """Echoes; of 100 requests five meet a fault. Knows how many were there at once."""

    def __init__(self, percent: float = 0.0, pause: float = 0.0) -> None:
        self.percent = percent
        self.pause = pause
        self.random = random.Random(7)

    def __call__(self, request: RecordedRequest) -> Reply:
        if "odd" in request.json["messages"][-1]["content"]:
            return error_reply(400, "odd")
        if self.random.random() * 100 < self.percent:
            return self.random.choice(FAULTS)
        answer = echo(request)
        return Reply((Pause(self.pause), *answer.steps)) if self.pause else answer


@pytest.fixture
def server() -> Iterator[Server]:
    with serve_in_thread(Faulty()) as running:
        yield running


def answers(frame: Any, column: str = "answer") -> list[Any]:
    found: list[Any] = frame.to_pydict()[column]
    return found


def test_strings_and_nulls(server: Server) -> None:
    frame = daft.from_pydict({"prompt": ["a", None, "odd", "", "b"]})
    frame = frame.with_column(
        "answer", complete(frame["prompt"], model="m", base_url=server.base_url)
    )
    found = [checked(answer) for answer in answers(frame)]
    assert [answer["text"] for answer in found] == ["a", None, None, None, "b"]
    assert [answer["error"] for answer in found] == [
        None,
        "invalid_row",
        "bad_request",
        "invalid_row",
        None,
    ]
    assert len(server.requests) == 3


def test_lists_of_messages(server: Server) -> None:
    rows = [
        [{"role": "system", "content": "s"}, {"role": "user", "content": "u", "name": "n"}],
        [{"role": "user", "content": "v"}],
        None,
        [],
    ]
    frame = daft.from_pydict({"m": rows})
    asked = complete(frame["m"], model="m", base_url=server.base_url, concurrency=1)
    found = [checked(answer) for answer in answers(frame.with_column("answer", asked))]
    assert [answer["text"] for answer in found] == ["u", "v", None, None]
    bodies = [request.json["messages"] for request in server.requests]
    # Daft has a null where a struct lacks a member; it is not sent.
    assert bodies == rows[:2]


@pytest.mark.parametrize("prompts", [["a"], [None, None], ["odd"], []])
def test_the_type_is_the_same_whatever_happens(server: Server, prompts: list[Any]) -> None:
    series = daft.Series.from_pylist(prompts, dtype=daft.DataType.string())
    frame = daft.from_pydict({"prompt": series})
    frame = frame.with_column(
        "answer", complete(frame["prompt"], model="m", base_url=server.base_url)
    )
    planned = frame.schema()["answer"].dtype
    table = frame.to_arrow()
    assert planned == daft.DataType.from_arrow_type(answer_type())
    assert table.num_rows == len(prompts)
    assert [
        (f.name, str(f.type).removeprefix("large_")) for f in table.schema.field("answer").type
    ] == [(f.name, str(f.type)) for f in answer_type()]


@pytest.mark.parametrize(("concurrency", "batch_size"), [(3, None), (40, None), (20, 16)])
def test_requests_are_bounded(concurrency: int, batch_size: int | None) -> None:
    with serve_in_thread(Faulty(pause=0.02)) as server:
        peak = 0
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.001):
                peak = max(peak, len(server.in_flight))

        watcher = threading.Thread(target=watch)
        watcher.start()
        frame = daft.from_pydict({"prompt": [str(n) for n in range(600)]})
        asked = complete(
            frame["prompt"],
            model="m",
            base_url=server.base_url,
            concurrency=concurrency,
            batch_size=batch_size,
        )
        found = answers(frame.with_column("answer", asked))
        done.set()
        watcher.join()
    texts = [checked(answer)["text"] for answer in found]
    wanted = [str(n) for n in range(600)]
    assert texts == wanted if batch_size is None else Counter(texts) == Counter(wanted)
    assert concurrency // 2 <= peak <= concurrency
    assert len(server.connections) <= concurrency


def test_parquet_to_parquet_with_faults(tmp_path: Path) -> None:
    rows = 3000
    prompts = ["odd" if n % 100 == 7 else f"prompt {n}" for n in range(rows)]
    daft.from_pydict({"id": list(range(rows)), "prompt": prompts}).write_parquet(
        str(tmp_path / "in")
    )
    with serve_in_thread(Faulty(percent=5)) as server:
        frame = daft.read_parquet(str(tmp_path / "in" / "*.parquet"))
        frame = frame.with_column(
            "answer", complete(frame["prompt"], model="m", base_url=server.base_url)
        )
        frame.write_parquet(str(tmp_path / "out"))
    out = daft.read_parquet(str(tmp_path / "out" / "*.parquet")).sort("id").to_pydict()
    assert out["id"] == list(range(rows))
    for prompt, answer in zip(prompts, out["answer"], strict=True):
        assert checked(answer)["text"] == (None if prompt == "odd" else prompt)
    assert Counter(answer["error"] for answer in out["answer"])["bad_request"] == rows // 100
    # But for those that only met a dead idle connection.
    counted = sum(answer["requests"] for answer in out["answer"])
    assert rows < counted <= len(server.requests)


def test_a_refused_account_ends_the_query() -> None:
    with serve_in_thread(error_reply(401, "no such key")) as server:
        frame = daft.from_pydict({"prompt": [str(n) for n in range(1000)]})
        asked = complete(frame["prompt"], model="m", base_url=server.base_url, concurrency=8)
        with pytest.raises(Exception, match="no such key"):
            frame.with_column("answer", asked).collect()
        assert len(server.requests) <= 8


def test_a_refused_account_as_the_failure_of_rows() -> None:
    with serve_in_thread(error_reply(401, "no such key")) as server:
        frame = daft.from_pydict({"prompt": [str(n) for n in range(300)]})
        asked = complete(frame["prompt"], model="m", base_url=server.base_url, on_refused="row")
        found = answers(frame.with_column("answer", asked))
    assert {checked(answer)["error"] for answer in found} == {"status_401"}


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"model": ""}, {"on_cut": "glue"}])
def test_bad_arguments_before_anything_runs(options: dict[str, Any]) -> None:
    frame = daft.from_pydict({"prompt": ["a"]})
    with pytest.raises(ValueError, match=next(iter(options)).removesuffix("currency")):
        complete(frame["prompt"], **{"model": "m", **options})


def test_several_columns_of_one_frame(server: Server) -> None:
    frame = daft.from_pydict({"a": ["x", "y"], "b": ["z", None]})
    for column in ("a", "b"):
        asked = complete(frame[column], model="m", base_url=server.base_url)
        frame = frame.with_column(f"{column}2", asked)
    assert [answer["text"] for answer in answers(frame, "a2")] == ["x", "y"]
    assert [answer["text"] for answer in answers(frame, "b2")] == ["z", None]


def test_it_is_silent_to_the_exit(server: Server) -> None:
    program = """
import logging, warnings
logging.getLogger("asyncio").setLevel(logging.ERROR)
import daft
warnings.simplefilter("ignore")
from penstock.engines.daft import complete
warnings.filterwarnings("always", category=ResourceWarning)
frame = daft.from_pydict({"prompt": [str(n) for n in range(100)]})
frame = frame.with_column("answer", complete(frame["prompt"], model="m", base_url=sys.argv[1]))
assert len(frame.to_pydict()["answer"]) == 100
"""
    code, _, errors = run_program(program, server.base_url, timeout=60)
    assert code == 0, errors
    assert not re.search("Traceback|Error|Warning", errors), errors


def test_examples_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "pages" / "how-to" / "engines.md"
    blocks = page.read_text().split("```py\n")[1:]
    (example,) = [block.split("```")[0] for block in blocks if "import daft" in block]
    assert len([line for line in example.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    daft.from_pydict({"prompt": ["a", None]}).write_parquet("prompts")
    with serve_in_thread(lambda _: json_reply(completion("Hello"))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        exec(compile(example, str(page), "exec"), {})
    out = daft.read_parquet("answers/*.parquet").to_pydict()
    assert out == {"prompt": ["a", None], "text": ["Hello", None], "error": [None, "invalid_row"]}
    assert penstock.engines.daft.complete is complete
