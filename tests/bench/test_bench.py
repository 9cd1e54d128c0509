"""That the bench measures what it says: every client receives every event. No figures."""

from __future__ import annotations

import importlib.util
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import certifi
import msgspec
import pytest

from tests.bench import payloads
from tests.bench.__main__ import main
from tests.bench.measure import Job
from tests.bench.report import ratio_table
from tests.bench.runner import CLIENTS, Outcome, jobs
from tests.bench.serving import Server, serving
from tests.bench.worker import perform
from tests.bench.workloads import WORKLOADS, size_of

IN_PROCESS = [name for name, workload in WORKLOADS.items() if workload.run is not None]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as served:
        yield served


@pytest.mark.parametrize("job", jobs(IN_PROCESS, CLIENTS, "tiny"), ids=lambda job: str(job.client))
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # what peers leave open is theirs
def test_every_client_receives_the_whole_answer(job: Job, server: Server) -> None:
    size = job.size
    text = payloads.text(size.events, size.characters)
    if job.workload == "models":
        text = " ".join(payloads.MODELS)
    whole = len(text) * size.streams
    # A worker compares the texts themselves and raises when they differ.
    result = perform(server.place(job))
    assert result.requests == size.streams
    if job.workload == "idle":
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
    }
    assert all(len(outcome["runs"]) == 1 for outcome in report["outcomes"])
    drained = next(o for o in report["outcomes"] if o["client"] == "raw")
    assert drained["runs"][0]["connections"] == 1
    assert "on top, us/event" in capsys.readouterr().out


def test_a_ratio_over_its_budget_is_marked() -> None:
    def outcome(client: str, median: float) -> Outcome:
        return Outcome("drain", client, "us/event", median, [])

    table = ratio_table([outcome("penstock", 6.0), outcome("aiohttp", 3.0), outcome("raw", 4.0)])
    assert "2.000 ! > 1.6" in table
    assert "1.500 <= 2.5" in table


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
