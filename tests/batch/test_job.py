"""Jobs from a file to a file: resumed, bounded, interrupted, and what they leave behind."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from penstock import batch
from penstock.batch import NotStarted, Report
from penstock.batch.job import Job
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, status_reply
from penstock.testing.script import Pause, RecordedRequest, Reply, Stall, reply
from tests.support.chat import client_on

from .support import OK, answered, body, line, lines_of, number_of, write_rows

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


class Place:
    """A folder with a job's files, and the network that it is run on."""

    def __init__(self, folder: Path) -> None:
        self.input = folder / "in.jsonl"
        self.output = folder / "out.jsonl"
        self.errors = folder / "out.errors.jsonl"
        self.network = MemoryNetwork(OK)

    async def run(self, script: Any = OK, **options: Any) -> Report:
        self.network = MemoryNetwork(script)
        async with client_on(self.network) as client:
            return await batch.run_files(client, self.input, self.output, **options)

    @property
    def asked(self) -> list[int]:
        return sorted(number_of(request) for request in self.network.requests)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def failing(*numbers: int, with_: Reply) -> Callable[[RecordedRequest], Reply]:
    return lambda request: with_ if number_of(request) in numbers else OK


async def test_every_row_is_answered(place: Place) -> None:
    write_rows(place.input, range(50))
    report = await place.run(limit=4)
    assert sorted(answered(place.output)) == list(range(50))
    assert not place.errors.exists()
    assert (report.rows, report.answered, report.failed, report.stopped) == (50, 50, 0, None)
    assert (report.requests, report.retries, report.already_done) == (50, 0, 0)
    assert report.usage == {
        "prompt_tokens": 50,
        "completion_tokens": 50,
        "total_tokens": 100,
    }
    first = lines_of(place.output)[0]
    assert first["response"]["body"] == completion("Hello")


async def test_a_job_that_is_done_asks_nothing(place: Place) -> None:
    write_rows(place.input, range(20))
    await place.run()
    before = place.output.read_bytes()
    report = await place.run(error_reply(500))
    assert place.network.requests == []
    assert place.output.read_bytes() == before
    assert (report.already_done, report.answered) == (20, 0)


async def test_only_what_is_missing_is_asked(place: Place) -> None:
    write_rows(place.input, range(20))
    await place.run(failing(3, 7, with_=error_reply(400)))
    assert [each["custom_id"] for each in lines_of(place.errors)] == ["row 3", "row 7"]
    report = await place.run()
    assert place.asked == [3, 7]
    assert sorted(answered(place.output)) == list(range(20))
    assert not place.errors.exists()
    assert (report.already_done, report.answered) == (18, 2)


async def test_rows_that_are_added_removed_or_moved_change_nothing(place: Place) -> None:
    write_rows(place.input, range(10))
    await place.run()
    write_rows(place.input, [12, 9, 3, 5, 11, 1])
    await place.run()
    assert place.asked == [11, 12]
    assert sorted(answered(place.output)) == [*range(10), 11, 12]


async def test_the_errors_are_of_the_latest_run(place: Place) -> None:
    write_rows(place.input, range(5))
    report = await place.run(failing(1, 2, with_=error_reply(422)))
    assert report.failures == {"unprocessable": 2}
    await place.run(failing(2, with_=error_reply(404)))
    [failed] = lines_of(place.errors)
    assert failed["custom_id"] == "row 2"
    assert failed["error"]["code"] == "not_found"
    assert failed["response"]["status_code"] == 404


async def test_a_tail_is_cut_and_its_row_asked_again(place: Place) -> None:
    write_rows(place.input, range(10))
    await place.run()
    for tail in (b"{", b"garbage\n", b"\0" * 4096):
        data = place.output.read_bytes()
        whole = data.splitlines(keepends=True)
        place.output.write_bytes(b"".join(whole[:-1]) + whole[-1][:50] + tail)
        await place.run()
        assert len(place.asked) == 1
        assert sorted(answered(place.output)) == list(range(10))


async def test_damage_in_the_middle_stops_before_anything(place: Place) -> None:
    write_rows(place.input, range(4))
    await place.run()
    data = place.output.read_bytes().splitlines(keepends=True)
    damaged = b"".join([data[0], b"damage\n", *data[2:]])
    place.output.write_bytes(damaged)
    with pytest.raises(NotStarted, match="line 2 of"):
        await place.run(OK)
    assert place.network.requests == []
    assert place.output.read_bytes() == damaged


async def test_changed_rows(place: Place) -> None:
    write_rows(place.input, range(4))
    await place.run()
    data = place.output.read_bytes()
    place.input.write_bytes(line(0) + line(1, body=body(1, seed=5)) + line(9))
    with pytest.raises(NotStarted, match="1 row of") as raised:
        await place.run(OK)
    assert "line 2 (custom_id 'row 1')" in raised.value.details[0]
    assert place.output.read_bytes() == data
    with pytest.raises(NotStarted, match="2 rows of"):
        await place.run(params={"temperature": 0})
    report = await place.run(changed="keep")
    assert place.asked == [9]
    assert report.already_done == 2


async def test_nothing_is_left_behind_by_a_job_that_does_not_start(place: Place) -> None:
    place.input.write_bytes(line(1) + b"{\n" + line(1))
    with pytest.raises(NotStarted, match="2 rows of") as raised:
        await place.run()
    assert [detail.partition(":")[0] for detail in raised.value.details] == [
        "line 2",
        "line 3 (custom_id 'row 1')",
    ]
    assert not place.output.exists()
    assert not place.errors.exists()
    assert place.network.requests == []


async def test_invalid_rows_may_be_failures(place: Place) -> None:
    place.input.write_bytes(line(1) + b"{\n" + line(1) + line(2, method="GET") + line(3))
    report = await place.run(skip_invalid=True)
    assert sorted(answered(place.output)) == [1, 3]
    errors = lines_of(place.errors)
    assert [(each["custom_id"], each["error"]["code"]) for each in errors] == [
        (None, "invalid_row"),
        ("row 1", "duplicate_custom_id"),
        ("row 2", "invalid_row"),
    ]
    assert all(each["response"] is None for each in errors)
    assert (report.rows, report.answered, report.failed, report.requests) == (5, 2, 3, 2)
    # They are failures of the next run as well.
    report = await place.run(skip_invalid=True)
    assert (report.already_done, report.answered, report.failed) == (2, 0, 3)


async def test_an_output_of_another_input(place: Place) -> None:
    write_rows(place.input, range(3))
    await place.run()
    write_rows(place.input, range(10, 13))
    with pytest.raises(NotStarted, match="none of them to a row"):
        await place.run()
    await place.run(overwrite=True)
    assert sorted(answered(place.output)) == [10, 11, 12]


async def test_lines_of_vllm_count_by_custom_id(place: Place) -> None:
    write_rows(place.input, range(3))
    response = {"status_code": 200, "request_id": "vllm-batch-1", "body": completion()}
    done = {"id": "vllm-1", "custom_id": "row 1", "response": response, "error": None}
    failed = {
        "id": "vllm-2",
        "custom_id": "row 2",
        "response": {**response, "status_code": 400, "body": None},
        "error": {"message": "no"},
    }
    place.output.write_text("".join(json.dumps(each) + "\n" for each in (done, failed)))
    await place.run()
    assert place.asked == [0, 2]


async def test_one_run_at_a_time(place: Place) -> None:
    write_rows(place.input, range(3))
    await place.run()

    async def again() -> None:
        with pytest.raises(NotStarted, match="in use by another run"):
            await place.run()

    job = Job(client_on(reply(Stall())), place.input, place.output, overwrite=True)
    async with anyio.create_task_group() as group:
        group.start_soon(job.run)
        await anyio.sleep(1)
        await again()
        group.cancel_scope.cancel()


async def test_bodies_stay_as_they_were_sent(place: Place) -> None:
    write_rows(place.input, range(1))
    sent = '{ "b":1.0,\n\n  "a":[1,2],\r\n "s":"x\u2028y" }\n'
    await place.run(status_reply(200, sent))
    data = place.output.read_bytes()
    assert sent.replace("\n", "").replace("\r", "").encode() in data
    assert data.count(b"\n") == 1


async def test_parameters_and_other_endpoints(place: Place) -> None:
    place.input.write_bytes(line(1, url="/v1/embeddings", body={"input": "x", "stream": True}))
    await place.run(json_reply({"data": []}), params={"model": "other"})
    [request] = place.network.requests
    assert request.target == "/v1/embeddings"
    assert request.json == {"input": "x", "model": "other"}


async def test_compressed_input(place: Place) -> None:
    place.input = place.input.with_suffix(".jsonl.gz")
    place.input.write_bytes(gzip.compress(b"".join(map(line, range(20)))))
    await place.run()
    assert sorted(answered(place.output)) == list(range(20))
    place.input.write_bytes(place.input.read_bytes()[:-20])
    with pytest.raises(NotStarted, match="damaged"):
        await place.run()


async def test_at_most_so_many_rows_are_asked(place: Place) -> None:
    write_rows(place.input, range(10))
    report = await place.run(max_rows=3)
    assert sorted(answered(place.output)) == [0, 1, 2]
    assert (report.answered, report.stopped) == (3, None)
    await place.run(OK, max_rows=4)
    assert place.asked == [3, 4, 5, 6]
    await place.run()
    assert sorted(answered(place.output)) == list(range(10))


async def test_the_order_of_the_input(place: Place) -> None:
    write_rows(place.input, range(20))

    def slow_first(request: RecordedRequest) -> Reply:
        return reply(Pause(30.0 - number_of(request)), OK.data)

    await place.run(slow_first, max_rows=15)
    assert answered(place.output) == list(range(14, -1, -1))
    await place.run(slow_first, ordered=True)
    assert answered(place.output) == list(range(20))


async def test_a_job_that_is_done_is_sorted_all_the_same(place: Place) -> None:
    write_rows(place.input, range(5))
    await place.run()
    place.output.write_bytes(b"".join(place.output.read_bytes().splitlines(keepends=True)[::-1]))
    await place.run(ordered=True)
    assert answered(place.output) == list(range(5))


async def test_a_check_only_looks(place: Place) -> None:
    write_rows(place.input, range(5))
    report = await place.run(check=True)
    assert (report.rows, report.already_done, report.answered) == (5, 0, 0)
    assert not place.output.exists()
    await place.run(max_rows=2)
    torn = place.output.read_bytes() + b"{torn"
    place.output.write_bytes(torn)
    report = await place.run(OK, check=True)
    assert report.already_done == 2
    assert place.output.read_bytes() == torn
    assert place.network.requests == []
    place.input.write_bytes(b"{\n")
    with pytest.raises(NotStarted):
        await place.run(check=True)


async def test_a_refused_account(place: Place) -> None:
    write_rows(place.input, range(100))

    def answer(request: RecordedRequest) -> Reply:
        return OK if number_of(request) < 5 else error_reply(401, "bad key")

    report = await place.run(answer, limit=8)
    assert (report.stopped, report.failed) == ("refused", 0)
    assert report.message is not None
    assert "bad key" in report.message
    assert report.requests <= 5 + 8
    assert not place.errors.exists()
    await place.run()
    assert sorted(answered(place.output)) == list(range(100))


async def test_no_answer(place: Place) -> None:
    write_rows(place.input, range(10))
    report = await place.run(error_reply(503), patience=20.0)
    assert report.stopped == "unavailable"
    assert (report.answered, report.failed) == (0, 0)


async def test_failures_of_a_resumed_job_do_not_blow_the_fuse(place: Place) -> None:
    write_rows(place.input, range(251))
    rejected = failing(*range(250), with_=error_reply(400))
    assert (await place.run(rejected)).stopped == "fuse"
    write_rows(place.input, [250, *range(250)])
    assert (await place.run(rejected, limit=1)).stopped is None
    report = await place.run(rejected)
    assert (report.stopped, report.failed) == (None, 250)


async def test_a_first_interruption_waits_for_rows_under_way(place: Place) -> None:
    write_rows(place.input, range(10))
    slow = reply(Pause(5.0), OK.data)
    async with client_on(MemoryNetwork(slow)) as client:
        job = Job(client, place.input, place.output, limit=2)

        async def interrupt() -> None:
            await anyio.sleep(1.0)
            job.interrupt("a signal", 20.0)

        async with anyio.create_task_group() as group:
            group.start_soon(interrupt)
            report = await job.run()
    assert sorted(answered(place.output)) == [0, 1]
    assert (report.stopped, report.message, report.failed) == ("interrupted", "a signal", 0)
    assert not place.errors.exists()
    assert 5.0 <= anyio.current_time() <= 5.5


@pytest.mark.parametrize("grace", [0.0, 3.0])
async def test_what_does_not_come_in_time_is_given_up(place: Place, grace: float) -> None:
    write_rows(place.input, range(10))
    network = MemoryNetwork(lambda request: OK if number_of(request) == 0 else reply(Stall()))
    async with client_on(network) as client:
        job = Job(client, place.input, place.output, limit=4)

        async def interrupt() -> None:
            await anyio.sleep(1.0)
            job.interrupt("a signal", grace)

        async with anyio.create_task_group() as group:
            group.start_soon(interrupt)
            report = await job.run()
        assert client.statistics().open_calls == 0
    assert answered(place.output) == [0]
    assert (report.stopped, report.failed, report.answered) == ("interrupted", 0, 1)
    assert anyio.current_time() <= 1.1 + grace


async def test_an_interruption_before_the_first_request(place: Place) -> None:
    write_rows(place.input, range(2000))
    job = Job(client_on(OK), place.input, place.output)
    job.interrupt("a signal", 20.0)
    report = await job.run()
    assert (report.stopped, report.requests) == ("interrupted", 0)
    assert not place.output.exists()


async def test_an_interruption_while_the_output_is_sorted(place: Place) -> None:
    write_rows(place.input, range(2000))
    await place.run()
    unsorted = b"".join(place.output.read_bytes().splitlines(keepends=True)[::-1])
    for looks in (1, 2, 3, 4, 5):
        # With a row to ask first, and without one.
        kept = unsorted if looks % 2 else unsorted.split(b"\n", 1)[1]
        place.output.write_bytes(kept)
        async with client_on(OK) as client:
            job = Job(client, place.input, place.output, ordered=True)

            async def interrupt(job: Job = job, looks: int = looks) -> None:
                while not (job.report().rows and not job.is_asking):  # noqa: ASYNC110 - only a look tells
                    await anyio.lowlevel.checkpoint()
                for _ in range(looks):
                    await anyio.lowlevel.checkpoint()
                job.interrupt("a signal", 20.0)

            async with anyio.create_task_group() as group:
                group.start_soon(interrupt)
                report = await job.run()
        assert (report.stopped, report.message) == ("interrupted", "a signal")
        assert place.output.read_bytes().startswith(kept)
        assert not place.output.with_name("out.jsonl.ordered").exists()
    await place.run(ordered=True)
    assert answered(place.output) == list(range(2000))


async def test_a_cancelled_job_keeps_what_came(place: Place) -> None:
    write_rows(place.input, range(10))

    def answer(request: RecordedRequest) -> Reply:
        return OK if number_of(request) < 3 else reply(Stall())

    with anyio.move_on_after(1.0) as scope:
        await place.run(answer, limit=5)
    assert scope.cancelled_caught
    assert sorted(answered(place.output)) == [0, 1, 2]
    await place.run(OK)
    assert sorted(answered(place.output)) == list(range(10))


async def test_a_full_disk(place: Place) -> None:
    write_rows(place.input, range(10))
    async with client_on(OK) as client:
        report = await batch.run_files(client, place.input, "/dev/full", errors=place.errors)
    assert report.stopped == "output"
    assert report.message is not None
    assert "No space left" in report.message


async def test_failures_that_cannot_be_written(place: Place) -> None:
    write_rows(place.input, range(4))
    report = await place.run(failing(2, with_=error_reply(400)), errors="/dev/full", limit=1)
    assert report.stopped == "output"
    assert answered(place.output) == [0, 1]


async def test_an_output_that_is_a_device(place: Place) -> None:
    write_rows(place.input, range(4))
    async with client_on(failing(1, with_=error_reply(400))) as client:
        report = await batch.run_files(client, place.input, os.devnull)
    assert (report.answered, report.failed, report.stopped) == (3, 1, None)


async def test_progress(place: Place) -> None:
    write_rows(place.input, range(4))
    seen: list[Report] = []
    await place.run(reply(Pause(1.0), OK.data), limit=1, on_progress=seen.append)
    assert seen[0].answered == 0
    assert {report.answered for report in seen} == {0, 1, 2, 3, 4}
    assert seen[-1].answered == 4
    assert all(report.rows == 4 for report in seen)


async def test_progress_says_that_the_server_is_away(place: Place) -> None:
    write_rows(place.input, range(4))
    seen: list[Report] = []
    await place.run([*[error_reply(503)] * 12, OK], on_progress=seen.append)
    messages = [report.message for report in seen]
    assert any(message is not None and "no answer" in message for message in messages)
    assert messages[-1] is None


async def test_an_error_of_on_progress_is_the_callers(place: Place) -> None:
    write_rows(place.input, range(4))

    def broken(report: Report) -> None:
        if report.answered:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await place.run(reply(Pause(1.0), OK.data), limit=1, on_progress=broken)


async def test_an_empty_input(place: Place) -> None:
    place.input.write_bytes(b"\n \r\n")
    report = await place.run(ordered=True)
    assert (report.rows, report.answered) == (0, 0)
    assert place.output.read_bytes() == b""


async def test_missing_folders_and_files(place: Place, tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="cannot read"):
        await place.run()
    write_rows(place.input, range(2))
    with pytest.raises(NotStarted, match="no such directory"):
        await place.run(errors=tmp_path / "none" / "errors")
    with pytest.raises(NotStarted, match="is a directory"):
        await place.run(errors=tmp_path)
    place.output = tmp_path / "none" / "out"
    with pytest.raises(NotStarted, match="no such directory"):
        await place.run()


@pytest.mark.parametrize(
    "options", [{"changed": "x"}, {"max_rows": 0}, {"limit": 0}, {"params": 3}, {"patience": -1}]
)
async def test_arguments_that_make_no_sense(place: Place, options: dict[str, Any]) -> None:
    write_rows(place.input, range(2))
    with pytest.raises((ValueError, TypeError)):
        await place.run(**options)
    assert not place.output.exists()
