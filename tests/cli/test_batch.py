"""`penstock batch`: exit statuses, streams, signals, kills, and what is left in the files."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.cli import main
from penstock.testing.replies import error_reply
from penstock.testing.script import Pause, RecordedRequest, Reply, Stall, reply
from penstock.testing.server import Server, becomes_true, closed_port, serve_in_thread
from tests.batch.support import OK, answered, line, lines_of, number_of, write_rows

COMMAND = [sys.executable, "-m", "penstock", "batch"]
SLOW = reply(Pause(0.3), OK.data)


class Job:
    """A job in a folder, run as a command."""

    def __init__(self, folder: Path, server: Server | None, port: int | None = None) -> None:
        self.folder = folder
        self.input = folder / "in.jsonl"
        self.output = folder / "out.jsonl"
        self.errors = folder / "out.errors.jsonl"
        self.url = server.base_url if server is not None else f"http://127.0.0.1:{port}/v1"

    def command(self, *options: str, input: str = "in.jsonl", output: str = "out.jsonl") -> Any:
        return [*COMMAND, "--base-url", self.url, *options, input, output]

    def run(self, *options: str, stdin: bytes | None = None, **names: Any) -> Any:
        return subprocess.run(
            self.command(*options, **names),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            cwd=self.folder,
            timeout=60,
            check=False,
        )

    def start(self, *options: str, **names: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(*options, **names),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
        )


@contextmanager
def job(folder: Path, script: Any = OK, rows: int = 0) -> Generator[Job]:
    with serve_in_thread(script) as server:
        made = Job(folder, server)
        made.server = server  # type: ignore[attr-defined]
        write_rows(made.input, range(rows))
        yield made


def failing(*numbers: int, with_: Reply) -> Callable[[RecordedRequest], Reply]:
    return lambda request: with_ if number_of(request) in numbers else OK


@pytest.mark.parametrize("backend", ["asyncio", "trio", "uvloop"])
def test_a_job_to_its_end(tmp_path: Path, backend: str) -> None:
    with job(tmp_path, rows=100) as made:
        ended = made.run("--backend", backend, "--report", "report.json", "--set", "seed=7")
        assert (ended.returncode, ended.stdout) == (0, b"")
        assert sorted(answered(made.output)) == list(range(100))
        [shown] = ended.stderr.decode().splitlines()
        assert shown.startswith("100 rows: 100 answered, 0 failed, 0 retries, 100 prompt")
        report = json.loads((tmp_path / "report.json").read_bytes())
        assert list(report) == [
            "rows", "already_done", "answered", "failed", "failures", "requests", "retries",
            "usage", "seconds", "stopped", "message",
        ]  # fmt: skip
        assert (report["answered"], report["stopped"], report["message"]) == (100, None, None)
        ended = made.run("--set", "seed=7")
        assert ended.returncode == 0
        assert b"100 done before" in ended.stderr


def test_some_rows_failed(tmp_path: Path) -> None:
    with job(tmp_path, failing(2, 3, with_=error_reply(400, "no \x1b[31m good")), rows=5) as made:
        ended = made.run("--progress", "none")
        assert (ended.returncode, ended.stdout, ended.stderr) == (1, b"", b"")
        assert len(lines_of(made.errors)) == 2
        ended = made.run()
        assert ended.returncode == 1
        assert b"2 failed (bad_request 2)" in ended.stderr
        assert b"\x1b" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "novalue"], "NAME=JSON"),
        (["--concurrency", "0"], "at least 1"),
        (["--max-retries", "-1"], "at least 0"),
        (["--timeout", "0"], "above 0"),
        (["--patience", "nan"], "0 or more"),
        (["--patience", "-3"], "0 or more"),
        (["--rpm", "0"], "above 0"),
        (["--on-cut", "glue"], "invalid choice"),
        (["--changed", "x"], "invalid choice"),
        (["--limit", "0"], "at least 1"),
        (["--backend", "curio"], "invalid choice"),
        (["--provider", "groq"], "not allowed with"),
        (["--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY is not set"),
        (["--report", "none/report.json"], "cannot write the report"),
        (["--report", "out.jsonl"], "cannot be the report"),
        (["--errors", "out.jsonl"], "cannot be both"),
        (["--errors", "none/x"], "no such directory"),
    ],
)
def test_arguments_that_make_no_sense(
    tmp_path: Path,
    options: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "in.jsonl", range(2))
    try:
        status: object = main(Job(tmp_path, None, closed_port()).command(*options)[3:])
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_a_provider_without_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "in.jsonl", range(2))
    files = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]
    assert main(["batch", "--provider", "groq", *files]) == 2
    assert "GROQ_API_KEY" in capsys.readouterr().err


def test_rows_that_cannot_be_asked(tmp_path: Path) -> None:
    with job(tmp_path) as made:
        made.input.write_bytes(b"".join(b"{%d\n" % number for number in range(12)) + line(1))
        ended = made.run()
        assert ended.returncode == 2
        first, *details = ended.stderr.decode().splitlines()
        assert "12 rows of in.jsonl cannot be asked" in first
        assert [detail.strip().partition(":")[0] for detail in details] == [
            *[f"line {number}" for number in range(1, 11)],
            "and 2 more",
        ]
        ended = made.run("--skip-invalid")
        assert ended.returncode == 1
        assert answered(made.output) == [1]
        assert len(lines_of(made.errors)) == 12


def test_a_check(tmp_path: Path) -> None:
    with job(tmp_path, rows=3) as made:
        ended = made.run("--check")
        assert ended.returncode == 0
        assert b"3 rows: 0 answered, 0 failed, 3 not asked" in ended.stderr
        made.input.write_bytes(b"{\n")
        assert made.run("--check").returncode == 2
        assert not made.output.exists()
        assert made.server.requests == []  # type: ignore[attr-defined]


def test_standard_input_and_output(tmp_path: Path) -> None:
    with job(tmp_path, failing(2, with_=error_reply(404))) as made:
        rows = line(1) + b"{bad\r\n\r\n" + line(2) + line(1) + line(3)[:-1]
        ended = made.run(stdin=rows, input="-", output="-")
        assert ended.returncode == 1
        found = [json.loads(each) for each in ended.stdout.splitlines()]
        codes = {(each["custom_id"], each["error"] and each["error"]["code"]) for each in found}
        assert len(found) == 5
        assert codes == {
            ("row 1", None),
            (None, "invalid_row"),
            ("row 2", "not_found"),
            ("row 1", "duplicate_custom_id"),
            ("row 3", None),
        }
        # Of a pipe rows that are done are not asked either.
        made.run(stdin=line(1), input="-")
        ended = made.run(stdin=line(1) + line(3), input="-")
        assert ended.returncode == 0
        assert answered(made.output) == [1, 3]


def test_a_named_pipe_and_process_substitution(tmp_path: Path) -> None:
    with job(tmp_path, rows=5) as made:
        command = " ".join(map(str, made.command(input="<(cat in.jsonl)", output=">(cat >got)")))
        ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, check=False)
        assert ended.returncode == 0
        assert becomes_true(lambda: len(answered(tmp_path / "got")) == 5)


def test_rows_of_a_pipe_are_asked_as_they_come(tmp_path: Path) -> None:
    with job(tmp_path) as made:
        process = subprocess.Popen(
            made.command("--progress", "none", input="-", output="-"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            for number in range(3):
                process.stdin.write(line(number))
                process.stdin.flush()
                assert json.loads(process.stdout.readline())["custom_id"] == f"row {number}"
            process.stdin.close()
            assert process.wait() == 0


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    with job(tmp_path, rows=2000) as made:
        process = made.start("--concurrency", "4", output="-")
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == 1
        assert b"Traceback" not in said


def test_the_account_is_refused(tmp_path: Path) -> None:
    with job(tmp_path, error_reply(401, "bad key"), rows=50) as made:
        ended = made.run("--concurrency", "2")
        assert ended.returncode == 3
        assert b"bad key" in ended.stderr
        assert not made.errors.exists()
        assert len(made.server.requests) <= 2  # type: ignore[attr-defined]


def test_a_hundred_failures_in_a_row(tmp_path: Path) -> None:
    with job(tmp_path, error_reply(400), rows=300) as made:
        ended = made.run("--concurrency", "1")
        assert ended.returncode == 3
        assert len(lines_of(made.errors)) == 100


def test_the_server_is_away(tmp_path: Path) -> None:
    made = Job(tmp_path, None, closed_port())
    write_rows(made.input, range(10))
    ended = made.run("--patience", "2")
    assert ended.returncode == 4
    assert ended.stderr.count(b"waiting") == 1
    assert made.output.read_bytes() == b""
    assert not made.errors.exists()


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


@pytest.mark.parametrize("output", ["out.jsonl", "-"])
def test_a_full_disk(tmp_path: Path, output: str) -> None:
    with job(tmp_path, rows=200) as made:
        with made.output.open("wb") if output == "-" else open(os.devnull, "wb") as file:  # noqa: PTH123
            ended = subprocess.run(
                made.command(output=output),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.PIPE,
                preexec_fn=limit_file_size,
                cwd=tmp_path,
                check=False,
            )
        assert ended.returncode == 5
        assert b"File too large" in ended.stderr
        found = answered(made.output)
        assert len(found) == len(set(found)) > 0
        if output != "-":
            assert made.run().returncode == 0
            assert sorted(answered(made.output)) == list(range(200))


def test_a_device_that_is_full(tmp_path: Path) -> None:
    with job(tmp_path, rows=5) as made:
        ended = made.run(output="/dev/full")
        assert ended.returncode == 5
        assert b"No space left" in ended.stderr


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_first_signal(tmp_path: Path, signum: int, status: int, backend: str) -> None:
    with job(tmp_path, SLOW, rows=50) as made:
        process = made.start("--concurrency", "3", "--backend", backend)
        assert becomes_true(lambda: len(made.server.requests) >= 5)  # type: ignore[attr-defined]
        process.send_signal(signum)
        _, said = process.communicate(timeout=30)
        assert process.returncode == status
        assert b"Traceback" not in said
        assert b"run the same command again" in said
        # Those under way were let in.
        assert len(answered(made.output)) == len(made.server.requests)  # type: ignore[attr-defined]
        assert not made.errors.exists()
        assert made.run().returncode == 0
        assert sorted(answered(made.output)) == list(range(50))


@pytest.mark.parametrize("how", ["second", "grace 0", "grace 1"])
def test_what_is_given_up(tmp_path: Path, how: str) -> None:
    with job(tmp_path, lambda request: OK if number_of(request) < 3 else reply(Stall())) as made:
        write_rows(made.input, range(20))
        options = ["--grace", how[-1]] if how.startswith("grace") else []
        process = made.start("--concurrency", "4", *options)
        assert becomes_true(lambda: len(made.server.requests) >= 7)  # type: ignore[attr-defined]
        process.send_signal(signal.SIGINT)
        if how == "second":
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert b"Traceback" not in said
        assert answered(made.output) == [0, 1, 2]
        assert not made.errors.exists()


def test_any_number_of_kills(tmp_path: Path) -> None:
    chance = random.Random(11)

    def answer(request: RecordedRequest) -> Reply:
        return reply(Pause(0.02), OK.data)

    with job(tmp_path, answer, rows=300) as made:
        for _ in range(5):
            process = made.start("--concurrency", "8")
            before = len(made.server.requests)  # type: ignore[attr-defined]
            wanted = before + chance.randrange(1, 60)
            becomes_true(lambda: len(made.server.requests) >= wanted, 10)  # type: ignore[attr-defined] # noqa: B023
            process.kill()
            process.communicate()
            answered(made.output)  # whole lines alone
        assert made.run().returncode == 0
        assert sorted(answered(made.output)) == list(range(300))


def test_several_servers_one_of_which_dies(tmp_path: Path) -> None:
    with job(tmp_path, SLOW, rows=100) as made:
        with serve_in_thread(SLOW) as other:
            process = made.start("--base-url", other.base_url, "--concurrency", "8")
            assert becomes_true(lambda: len(other.requests) >= 8)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert sorted(answered(made.output)) == list(range(100))


def test_progress_in_plain_lines(tmp_path: Path) -> None:
    with job(tmp_path, SLOW, rows=30) as made:
        ended = made.run("--concurrency", "5", "--progress-every", "0.5")
        *shown, last = ended.stderr.decode().splitlines()
        assert shown
        assert all(re.fullmatch(r"\d+/30, \d+%, [\d.]+ rows/s(, .* left)?", each) for each in shown)
        assert last.startswith("30 rows: 30 answered")


def test_progress_at_a_terminal(tmp_path: Path) -> None:
    with job(tmp_path, SLOW, rows=30) as made:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            made.command("--concurrency", "5"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            cwd=tmp_path,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(theirs)
        said = b""
        try:
            while data := os.read(ours, 4096):
                said += data
        except OSError:
            pass  # how Linux says that the other end is closed
        os.close(ours)
        assert process.wait(30) == 0
        assert b"\r\x1b[K5/30" in said or b"\r\x1b[K10/30" in said
        assert said.endswith(b" s\r\n")
        assert said.count(b"\n") == 1


def test_closed_standard_streams(tmp_path: Path) -> None:
    with job(tmp_path, rows=5) as made:
        command = " ".join(map(str, made.command()))
        for closed in (">&-", "2>&-", ">&- 2>&-", "<&-"):
            ended = subprocess.run(["sh", "-c", f"{command} {closed}"], cwd=tmp_path, check=False)
            assert ended.returncode == 0
            assert sorted(answered(made.output)) == list(range(5))
            made.output.unlink()


def test_keys_are_never_shown(tmp_path: Path) -> None:
    secret = "sk-1234567890abcdef"
    with job(tmp_path, error_reply(400, f"the key {secret} is odd"), rows=3) as made:
        ended = subprocess.run(
            made.command("--api-key-env", "MY_KEY"),
            env={**os.environ, "MY_KEY": secret},
            capture_output=True,
            cwd=tmp_path,
            check=False,
        )
        assert ended.returncode == 1
        [request, *_] = made.server.requests  # type: ignore[attr-defined]
        assert request.headers["authorization"] == f"Bearer {secret}"
        assert secret not in made.errors.read_text() + ended.stderr.decode()
