"""A column of a Ray dataset, completed by actors."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import ray.data

from penstock.engines.columns import answer_type
from penstock.engines.ray import complete
from penstock.testing.replies import error_reply, json_reply
from penstock.testing.script import Pause, RecordedRequest, Reply, Reset, reply
from penstock.testing.server import Server, becomes_true, serve_in_thread

from .support import OK, checked, echo

FAULTS = [error_reply(500), reply(OK.data[:-20], Reset()), reply(Reset()), json_reply(None)]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """The cluster that RAY_ADDRESS names, or one of this machine, for this module alone."""
    options: dict[str, Any] = {}
    if "RAY_ADDRESS" not in os.environ:
        os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
        options = {"address": "local", "num_cpus": 2, "include_dashboard": False}
    ray.init(**options, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def dataset(prompts: list[Any], kind: pa.DataType | None = None, **columns: list[Any]) -> Any:
    array = pa.array(prompts, pa.string() if kind is None else kind)
    return ray.data.from_arrow(pa.table({"prompt": array, **columns}))


def faulty(request: RecordedRequest) -> Reply:
    if request.json["messages"][-1]["content"] == "odd":
        return error_reply(400, "odd")
    return random.choice(FAULTS) if random.random() < 0.05 else echo(request)


def test_strings_nulls_and_a_type_of_its_own() -> None:
    with serve_in_thread(faulty) as server:
        ds = dataset(["a", None, "odd", "b"], id=[0, 1, 2, 3])
        ds = complete(ds, "prompt", model="m", base_url=server.base_url)
        rows = sorted(ds.take_all(), key=lambda row: int(row["id"]))
    found = [checked(row["answer"]) for row in rows]
    assert [answer["text"] for answer in found] == ["a", None, None, "b"]
    assert [answer["error"] for answer in found] == [None, "invalid_row", "bad_request", None]


def test_lists_of_messages_and_other_names() -> None:
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    rows = [[{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], None]
    with serve_in_thread(echo) as server:
        ds = dataset(rows, pa.list_(message)).rename_columns({"prompt": "messages"})
        ds = complete(ds, into="said", model="m", base_url=server.base_url)
        found = [checked(row["said"]) for row in ds.take_all()]
        assert {answer["text"] for answer in found} == {"u", None}
        (request,) = server.requests
    assert request.json["messages"] == rows[0]


@pytest.mark.parametrize("prompts", [["a"], [None, None], ["odd"]])
def test_the_type_is_the_same_whatever_happens(prompts: list[Any], tmp_path: Path) -> None:
    with serve_in_thread(faulty) as server:
        ds = complete(dataset(prompts), "prompt", model="m", base_url=server.base_url)
        ds.write_parquet(str(tmp_path))
    schema = pq.read_table(tmp_path).schema
    assert schema.field("answer").type == answer_type()


def test_blocks_of_every_kind_go_together(tmp_path: Path) -> None:
    # One block of nulls, one of failures, one of answers, one that a filter has emptied.
    blocks = [[None] * 3, ["odd"] * 3, ["fine"] * 3, ["drop"] * 3]
    tables = [pa.table({"prompt": pa.array(block, pa.string())}) for block in blocks]
    with serve_in_thread(faulty) as server:
        ds = ray.data.from_arrow(tables).filter(lambda row: row["prompt"] != "drop")
        ds = complete(ds, "prompt", model="m", base_url=server.base_url, batch_size=3)
        ds.write_parquet(str(tmp_path))
    # The prompts of a block of nulls have a type of their own after a filter of Ray's.
    table = pq.read_table(tmp_path, columns=["answer"])
    assert table.schema.field("answer").type == answer_type()
    errors = Counter(answer["error"] for answer in table.column("answer").to_pylist())
    assert errors == {None: 3, "bad_request": 3, "invalid_row": 3}


def test_no_rows_at_all() -> None:
    ds = complete(dataset([]), "prompt", model="m", base_url="http://127.0.0.1:1/v1")
    assert ds.take_all() == []


def test_limits_are_those_of_all_workers() -> None:
    with serve_in_thread(lambda request: Reply((Pause(0.05), *echo(request).steps))) as server:
        peak = 0
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.002):
                peak = max(peak, len(server.in_flight))

        watcher = threading.Thread(target=watch)
        watcher.start()
        ds = dataset([str(n) for n in range(400)]).repartition(8)
        ds = complete(ds, "prompt", model="m", base_url=server.base_url, workers=2, concurrency=9)
        texts = {checked(row["answer"])["text"] for row in ds.take_all()}
        done.set()
        watcher.join()
    assert texts == {str(n) for n in range(400)}
    assert 4 <= peak <= 8


def test_parquet_to_parquet_with_faults_and_more_workers_than_cores(tmp_path: Path) -> None:
    rows = 2000
    prompts = [None if n % 100 == 9 else "odd" if n % 100 == 7 else f"p{n}" for n in range(rows)]
    (tmp_path / "in").mkdir()
    for part in range(4):
        table = pa.table({"id": list(range(rows))[part::4], "prompt": prompts[part::4]})
        pq.write_table(table, tmp_path / "in" / f"{part}.parquet")
    with serve_in_thread(faulty) as server:
        ds = ray.data.read_parquet(str(tmp_path / "in"))
        ds = complete(ds, "prompt", model="m", base_url=server.base_url, workers=3)
        ds.write_parquet(str(tmp_path / "out"))
    out = pq.read_table(tmp_path / "out").sort_by("id").to_pydict()
    assert out["id"] == list(range(rows))
    for prompt, answer in zip(prompts, out["answer"], strict=True):
        assert checked(answer)["text"] == (None if prompt in (None, "odd") else prompt)


def test_a_refused_account_ends_the_job() -> None:
    with serve_in_thread(error_reply(401, "no such key")) as server:
        ds = dataset([str(n) for n in range(500)])
        ds = complete(ds, "prompt", model="m", base_url=server.base_url, concurrency=8)
        with pytest.raises(Exception, match="no such key"):
            ds.take_all()
        assert len(server.requests) <= 8


def test_a_worker_that_crashes_has_its_batch_asked_again() -> None:
    with serve_in_thread(lambda request: Reply((Pause(0.2), *echo(request).steps))) as server:
        ds = dataset([str(n) for n in range(40)])
        ds = complete(ds, "prompt", model="m", base_url=server.base_url, concurrency=4)
        killer = threading.Thread(target=kill_the_worker, args=(server,))
        killer.start()
        texts = {checked(row["answer"])["text"] for row in ds.take_all()}
        killer.join()
    assert texts == {str(n) for n in range(40)}
    assert len(server.requests) > 40


def kill_the_worker(server: Server) -> None:
    """End the process that asks, in the middle of its batch."""
    assert becomes_true(lambda: len(server.requests) >= 10, 60)
    port = int(server.base_url.rpartition(":")[2].removesuffix("/v1"))
    connected = {
        each.pid for each in psutil.net_connections("tcp") if each.raddr and each.raddr.port == port
    }
    for pid in connected - {os.getpid(), None}:
        psutil.Process(pid).kill()


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"workers": 0}, ValueError),
        ({"workers": 1.5}, TypeError),
        ({"workers": 65}, ValueError),
        ({"batch_size": 0}, ValueError),
        ({"messages": ""}, ValueError),
        ({"into": None}, ValueError),
        ({"concurrency": 0}, ValueError),
        ({"per_second": -1}, ValueError),
        ({"model": ""}, ValueError),
    ],
)
def test_bad_arguments_before_anything_runs(options: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        complete(None, **{"model": "m", **options})


def test_the_example_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "pages" / "how-to" / "engines.md"
    blocks = page.read_text().split("```py\n")[1:]
    (example,) = [block.split("```")[0] for block in blocks if "import ray" in block]
    assert len([line for line in example.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts").mkdir()
    pq.write_table(pa.table({"prompt": ["a", None]}), tmp_path / "prompts" / "0.parquet")
    with serve_in_thread(echo) as server:
        example = example.replace('ray.init("auto")', "").replace(
            'model="gpt-5-mini"', f'model="m", base_url="{server.base_url}"'
        )
        example = example.replace('"prompts"', f'"{tmp_path}/prompts"')
        example = example.replace('"answers"', f'"{tmp_path}/answers"')
        exec(compile(example, str(page), "exec"), {})
    answers = pq.read_table(tmp_path / "answers").column("answer").to_pylist()
    assert {answer["text"] for answer in answers} == {"a", None}
