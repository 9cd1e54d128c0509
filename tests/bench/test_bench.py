"""That the bench measures what it says: every client receives every event. No figures."""

from __future__ import annotations

import importlib.util
import json
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import certifi
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import payloads
from tests.bench.__main__ import main
from tests.bench.capacity import CLOSE, Step, search
from tests.bench.drivers import raw_sockets
from tests.bench.drivers.by_hand import Events
from tests.bench.drivers.raw_sockets import Chunked
from tests.bench.environment import environment
from tests.bench.growth import Curve, Point
from tests.bench.measure import Job
from tests.bench.publish import publish
from tests.bench.report import Report, ratio_table
from tests.bench.runner import CLIENTS, Outcome, jobs
from tests.bench.serving import ROOT, Server, serving
from tests.bench.work import WrongAnswer
from tests.bench.worker import perform
from tests.bench.workloads import WORKLOADS, size_of
from tests.support.sweeps import sample

PAGE = ROOT / "docs/pages/topics/speed.md"
IN_PROCESS = [name for name, workload in WORKLOADS.items() if workload.run is not None]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as served:
        yield served


JOBS = {(job.workload, job.client): job for job in jobs(IN_PROCESS, CLIENTS, "tiny")}


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize(("workload", "client"), sample(JOBS, 0.35))
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # what peers leave open is theirs
def test_every_client_receives_the_whole_answer(workload: str, client: str, server: Server) -> None:
    job = JOBS[workload, client]
    size = job.size
    text = payloads.text(size.events, size.characters)
    if job.workload == "models":
        text = " ".join(payloads.MODELS)
    whole = len(text) * size.streams
    # A worker compares the texts themselves and raises when they differ.
    result = perform(server.place(job))
    assert result.requests == size.streams
    if job.workload in ("idle", "stalled"):
        assert result.events == size.streams
    elif job.workload.startswith(("paced", "timed")):
        assert result.characters == (0 if job.workload == "timed" else whole)
        assert result.events == size.streams * (size.events - size.warm_up)
    else:
        assert result.characters == (0 if job.workload == "long" else whole)
        assert result.events == size.streams * size.events


def test_what_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert jobs(list(WORKLOADS), CLIENTS, "full") == []


def test_one_command_measures_prints_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        ["--tiny", "--runs=1", "--client=penstock", "--client=raw", f"--out={tmp_path}"]
        + [f"--workload={name}" for name in ("drain", "drain-merged", "import")]
    )
    report = json.loads((tmp_path / "bench.json").read_bytes())
    measured = {(outcome["workload"], outcome["client"]) for outcome in report["outcomes"]}
    assert measured == {
        ("drain", "penstock"),
        ("drain", "raw"),
        ("drain-merged", "penstock"),
        ("import", "penstock"),
        ("import", "raw"),
    }
    assert all(len(outcome["runs"]) == 1 for outcome in report["outcomes"])
    drained = next(
        o for o in report["outcomes"] if (o["workload"], o["client"]) == ("drain", "raw")
    )
    assert drained["runs"][0]["connections"] == 1
    assert "on top, us/event" in capsys.readouterr().out


def test_a_ratio_over_its_budget_is_marked() -> None:
    def outcome(client: str, median: float) -> Outcome:
        return Outcome("drain", client, "us/event", median, [])

    table = ratio_table([outcome("penstock", 6.0), outcome("aiohttp", 3.0), outcome("raw", 4.0)])
    assert "2.000 ! > 1.6" in table
    assert "1.500 <= 2.5" in table


def test_a_budget_may_differ_on_trio() -> None:
    def outcome(client: str, median: float) -> Outcome:
        return Outcome("paced", client, "us/event", median, [])

    clients = ("penstock", "penstock@trio", "raw", "raw@trio")
    table = ratio_table([outcome(client, 1.3 if "pen" in client else 1.0) for client in clients])
    assert "1.300 ! > 1.2" in table
    assert "1.300 <= 1.4" in table


def test_the_profile_names_functions(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--profile=drain", "--tiny"])
    assert "tottime" in capsys.readouterr().out


@pytest.mark.parametrize("workload", [name for name, work in WORKLOADS.items() if work.tls])
def test_over_tls_means_that(workload: str, server: Server) -> None:
    placed = server.place(Job(workload, "raw", size_of(workload, "tiny")))
    assert placed.base_url.startswith("https://")
    # Without the server's authority nobody is believed.
    refused = False
    try:
        perform(msgspec.structs.replace(placed, authority=certifi.where()))
    except* ssl.SSLCertVerificationError:
        refused = True
    assert refused


class Losing(Events):
    """Drops the first event of a stream."""

    lost = False

    def feed(self, data: bytes) -> list[bytes]:
        events = super().feed(data)
        if events and not self.lost:
            self.lost = True
            return events[1:]
        return events


@pytest.mark.parametrize("workload", ["paced", "drain", "fan", "repeated", "timed", "long"])
def test_a_client_that_loses_an_event_gets_no_figure(
    workload: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_sockets, "Events", Losing)
    refused = False
    try:
        perform(server.place(Job(workload, "raw", size_of(workload, "tiny"))))
    except* WrongAnswer:
        refused = True
    assert refused


@given(st.integers(0, 20_000), st.floats(0.2, 5))
def test_the_search_finds_what_a_core_carries(carried: int, misjudged: float) -> None:
    def attempt(streams: int) -> Step:
        verdict = "held" if streams <= carried else "behind"
        return Step(streams, verdict, share=min(1, misjudged * streams / max(carried, 1)))

    found = search("any", attempt, 100, 8000)
    assert found.streams <= carried
    assert found.streams == 8000 or min(carried, 8000) <= max(found.streams * CLOSE, 3)
    assert found.ended_by == ("" if found.streams == 8000 else "behind")
    assert len(found.steps) < 50


def test_a_step_that_failed_by_chance_is_tried_again() -> None:
    verdicts = iter(["late", "held", "behind", "held", "behind", "behind"])
    found = search("any", lambda streams: Step(streams, next(verdicts), share=1), 100, 130)
    assert [step.streams for step in found.steps] == [100, 100, 125, 125, 130, 130]
    assert found.streams == 125


def test_growth_is_printed_published_and_taken_from_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "speed.md"
    shutil.copy(PAGE, page)
    folders = [f"--out={tmp_path}", f"--publish={tmp_path}"]
    sweeps = ["streams", "size", "held"]
    main(["--tiny", "--client=raw", *(f"--sweep={name}" for name in sweeps), *folders])
    report = json.loads((tmp_path / "bench.json").read_bytes())
    assert [curve["sweep"] for curve in report["growth"]] == sweeps
    assert all(len(curve["points"]) == 2 for curve in report["growth"])
    assert "us/event" in capsys.readouterr().out
    published = page.read_text()
    assert "| raw sockets + msgspec |" in published
    assert published.count("<!-- bench: ") == PAGE.read_text().count("<!-- bench: ")
    # Once more from what was written: nothing is measured, nothing changes.
    main([f"--from={tmp_path / 'bench.json'}", f"--publish={tmp_path}"])
    assert page.read_text() == published


def test_what_is_measured_anew_replaces_its_like() -> None:
    def outcome(workload: str, median: float) -> Outcome:
        return Outcome(workload, "penstock", "us/event", median, [])

    def curve(sweep: str, figure: float) -> Curve:
        return Curve(sweep, "raw", "us/event", [Point(10, figure, 1.0)])

    report = Report(environment(), "full", [outcome("paced", 1), outcome("drain", 2)])
    report.take_outcomes([outcome("paced", 3)])
    assert report.outcomes == [outcome("paced", 3), outcome("drain", 2)]
    report.take_curves([curve("size", 1), curve("events", 2)])
    report.take_curves([curve("size", 3)])
    assert report.growth == [curve("events", 2), curve("size", 3)]


def test_capacity_is_printed_and_added_to_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "earlier.json"
    curve = Curve("events", "raw", "us/event", [Point(10, 2.0, 2.0)])
    earlier.write_bytes(msgspec.json.encode(Report(environment(), "tiny", growth=[curve])))
    main(["--tiny", "--client=raw", "--only=capacity", f"--from={earlier}", f"--out={tmp_path}"])
    report = msgspec.json.decode((tmp_path / "bench.json").read_bytes(), type=Report)
    assert report.growth == [curve]
    assert [found.client for found in report.capacity] == ["raw"]
    assert "live streams" in capsys.readouterr().out


def test_the_page_marks_what_is_over_its_budget(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    shutil.copy(PAGE, page)
    outcomes = [
        Outcome("drain", "penstock", "us/event", 6.0, []),
        Outcome("drain", "aiohttp", "us/event", 3.0, []),
        Outcome("drain", "raw", "us/event", 4.0, []),
    ]
    publish(Report(environment(), "full", outcomes), tmp_path)
    assert "| **2.00** (> 1.6) | - | - | - | 1.50 (≤ 2.5) |" in page.read_text()


def test_large_events_are_split_once_and_put_together() -> None:
    split = Events()
    event = b"data: " + b"x" * 1000 + b"\n\n"
    for cut in range(len(event) + 1):
        assert split.feed(event[:cut]) + split.feed(event[cut:]) == [b"x" * 1000]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_the_floor_takes_the_chunked_coding_off_whatever_the_splits(step: int) -> None:
    body = b"".join(payloads.segments(5)) + payloads.END
    chunked = Chunked(b"")
    whole = b"".join(chunked.feed(body[at : at + step]) for at in range(0, len(body), step))
    assert chunked.ended
    assert whole.count(b"data: ") == 6
    assert whole.endswith(b"data: [DONE]\n\n")
