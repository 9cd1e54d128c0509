"""What CI runs, one session for each question. `uv run --group nox nox --list` names them."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "types", "docs", "tests"]
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]

# flake8-async reads no settings from a file. The 100 series: scopes, task groups and exceptions.
# 900: async generators. Off: 109, as httpcore's interface has `timeout` parameters; 114, which
# only asks to be told of names; 124, as a callback may have to be async without awaiting anything.
# 910 and 911 (a path without a checkpoint) are off: reading what has already arrived must not
# wait. tests/invariants/test_checkpoints.py counts the checkpoints that matter.
ASYNC_RULES = ("--enable=ASYNC1,ASYNC900", "--disable=ASYNC109,ASYNC114,ASYNC124")


def found(version: str) -> bool:
    """Whether uv knows an interpreter of that version on this machine."""
    uv = shutil.which("uv")
    if uv is None:
        return True
    find = [uv, "python", "find", "--no-python-downloads", "--no-project", version]
    return subprocess.run(find, capture_output=True).returncode == 0


if os.environ.get("UV_PYTHON_DOWNLOADS") == "never":
    wanted, PYTHONS = PYTHONS, [version for version in PYTHONS if found(version)]
    if not PYTHONS:
        raise SystemExit(f"no Python of {', '.join(wanted)} is on this machine")


def sync(session: nox.Session, *groups: str) -> None:
    """Install the project with these dependency groups and nothing else."""
    session.run_install(
        "uv",
        "sync",
        "--quiet",
        "--no-default-groups",
        *(f"--group={group}" for group in groups),
        f"--python={session.virtualenv.location}",
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location},
    )


def pytest(session: nox.Session, **options: Any) -> None:
    """Run the suite; what failed is run once more, alone.

    Some tests run in real time, on cores that others use as well. What is wrong fails twice.
    """
    command = ("python", "-m", "pytest", *session.posargs)
    try:
        session.run(*command, **options)
    except CommandFailed:
        session.run(*command, "--last-failed", "--last-failed-no-failures=none", "-n0", **options)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The test suite, on each interpreter."""
    sync(session, "test")
    pytest(session)


@nox.session
def tests_httpcore2(session: nox.Session) -> None:
    """The test suite with httpcore2 in httpcore's place, which is not there at all."""
    sync(session, "test", "httpcore2")
    session.run_install("uv", "pip", "uninstall", "--quiet", "httpcore")
    pytest(session, env={"PENSTOCK_HTTPCORE": "httpcore2"})


@nox.session
def tests_http11(session: nox.Session) -> None:
    """What is nearest to the wire, with every head written and read by httpcore and h11."""
    sync(session, "test")
    folders = ("tests/http", "tests/call", "tests/security")
    session.run("python", "-m", "pytest", *folders, env={"PENSTOCK_HTTP11": "httpcore"})


@nox.session
def tests_lowest(session: nox.Session) -> None:
    """The test suite with the oldest versions of the runtime dependencies."""
    sync(session, "test")
    lowest = nox.project.load_toml("pyproject.toml")["project"]["dependencies"]
    pinned = [requirement.split(",")[0].replace(">=", "==") for requirement in lowest]
    session.install(*pinned)
    pytest(session)


@nox.session
def tests_newest(session: nox.Session) -> None:
    """The test suite with the newest versions of everything, whatever is locked."""
    session.install("--upgrade", "--resolution=highest", "--editable=.", "--group=test")
    session.run("uv", "pip", "list", external=True)
    pytest(session)


@nox.session(python="3.12")
def tests_engines(session: nox.Session) -> None:
    """The tests of `penstock.engines`, with Daft, Dask and Ray. Ray is started and stopped."""
    sync(session, "engines")
    session.run("python", "-m", "pytest", "tests/engines", "-n0", *session.posargs)


@nox.session
@nox.parametrize("group", ["a", "b", "c"], ids=["a", "b", "c"])
def tests_frameworks(session: nox.Session, group: str) -> None:
    """Penstock under the frameworks of a dependency group `frameworks-...`.

    For instance: nox --session "tests_frameworks(a)" -- -k langchain
    """
    sync(session, f"frameworks-{group}")
    session.run("python", "-m", "pytest", "tests/frameworks", "--timeout=300", *session.posargs)


@nox.session
@nox.parametrize("group", ["a", "b", "c"], ids=["a", "b", "c"])
def tests_frameworks_newest(session: nox.Session, group: str) -> None:
    """The same with the newest versions of them all, whatever the group allows."""
    groups = nox.project.load_toml("pyproject.toml")["dependency-groups"]
    named = [each for each in groups[f"frameworks-{group}"] if isinstance(each, str)]
    unbounded = [requirement.split(">=")[0] for requirement in named]
    session.install("--upgrade", "--resolution=highest", "--editable=.", "--group=test", *unbounded)
    session.run("uv", "pip", "list", external=True)
    session.run("python", "-m", "pytest", "tests/frameworks", "--timeout=300", *session.posargs)


OPENAI_RELEASES = ["2.45", "2.54", "3.0", "3.3", "3.31", "3.57"]


@nox.session(python="3.12")
@nox.parametrize("release", OPENAI_RELEASES, ids=OPENAI_RELEASES)
def tests_openai(session: nox.Session, release: str) -> None:
    """Penstock under a release of the OpenAI SDK."""
    session.install("--editable=.[trio]", "--group=test", f"openai=={release}.*")
    session.run("python", "-m", "pytest", "tests/compat/openai", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """The test suite with its coverage."""
    sync(session, "test")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "report", "--show-missing", "--skip-covered")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, structured concurrency, the floors of the house and the CI's workflow."""
    sync(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "-m", "tests.tools.generate_blocking", "--check")
    files = sorted(str(path) for folder in ("src", "tests") for path in Path(folder).rglob("*.py"))
    session.run("flake8-async", "--anyio", *ASYNC_RULES, *files)
    session.run("lint-imports", "--no-cache")
    session.run("zizmor", "--offline", "--quiet", "--persona=pedantic", ".github")


@nox.session
def blocking(session: nox.Session) -> None:
    """Write the blocking twin, and tests of it, anew from the async source."""
    sync(session, "lint")
    session.run("python", "-m", "tests.tools.generate_blocking", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of the runtime dependencies, in the newest and the oldest versions.

    Asks the vulnerability service of PyPI. What cannot be asked about fails as well.
    """
    session.install(*nox.project.dependency_groups(nox.project.load_toml(), "audit"))
    for resolution in ("highest", "lowest-direct"):
        pinned = str(Path(session.create_tmp()) / f"{resolution}.txt")
        session.run(
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--all-extras",
            "--universal",
            "--generate-hashes",
            "--python-version=3.11",
            f"--resolution={resolution}",
            f"--output-file={pinned}",
            "pyproject.toml",
            silent=True,
        )
        try:
            # All is pinned, with hashes, so that neither pip nor a resolver is needed.
            session.run(
                "pip-audit",
                "--strict",
                "--require-hashes",
                "--disable-pip",
                "--progress-spinner=off",
                f"--requirement={pinned}",
            )
        except CommandFailed:
            session.error(
                f"of the {resolution} versions one is vulnerable, or could not be asked about:"
                " see above (the service of PyPI has to be within reach)"
            )


@nox.session
def types(session: nox.Session) -> None:
    """Two type checkers, over the documentation's examples too; the public types are whole."""
    sync(session, "types")
    session.run("mypy")
    session.run("pyright")
    session.run("python", "-m", "tests.typing.examples")
    session.run("pyright", "--verifytypes", "penstock", "--ignoreexternal")


def build_docs(session: nox.Session) -> None:
    """Build the site, then finish what the builder has no setting for."""
    session.run("zensical", "build", "--clean", "--strict", "-f", "docs/zensical.toml")
    for tool in ("llms_txt", "search_words", "copy_buttons"):
        session.run("python", "-m", f"tests.tools.{tool}")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, into docs/site."""
    sync(session, "docs")
    build_docs(session)


@nox.session
def site(session: nox.Session) -> None:
    """The built documentation in the system's Chromium: search, navigation, legibility, axe.

    The screenshots go into docs/screenshots.
    """
    sync(session, "docs", "site")
    build_docs(session)
    shots = Path("docs/screenshots").absolute()
    shots.mkdir(exist_ok=True)
    folder = {"PENSTOCK_SCREENSHOTS": str(shots)}
    session.run("python", "-m", "pytest", "tests/site", "-n2", *session.posargs, env=folder)


@nox.session
def bench(session: nox.Session) -> None:
    """Penstock and its peers side by side; the figures go into a folder of the session's own.

    For instance: nox --session bench -- --quick --workload paced
    All of it, into the page on speed: nox --session bench -- --publish docs/pages/topics
    """
    sync(session, "bench")
    arguments = session.posargs or [f"--out={session.create_tmp()}"]
    session.run("python", "-m", "tests.bench", *arguments)


@nox.session
def instructions(session: nox.Session) -> None:
    """Fails if an event or a request needs 5 % more instructions than recorded; wants valgrind.

    After an intended change: nox --session instructions -- --record
    """
    sync(session, "bench")
    session.run("python", "-m", "tests.bench.instructions", *session.posargs)


@nox.session(python=[version for version in PYTHONS if version in ("3.12", "3.13", "3.14")][:1])
def fuzz(session: nox.Session) -> None:
    """Look for inputs that break the wire, for a time on each target.

    For instance: nox --session fuzz -- --seconds 60 sse chunked
    """
    sync(session, "fuzz")
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Hundreds of tasks against a server that misbehaves, a minute on each event loop.

    For instance: nox --session soak -- --seconds 1800 --backend trio --load 0.5
    """
    sync(session, "test")
    if any(argument.startswith("--backend") for argument in session.posargs):
        session.run("python", "-m", "tests.soak", *session.posargs)
        return
    for backend in ("asyncio", "uvloop", "trio"):
        session.run("python", "-m", "tests.soak", f"--backend={backend}", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """Whether the tests notice changes of the source; adds to tests/mutation/record.json.

    For instance: nox --session mutation -- penstock._wire.sse
    """
    sync(session, "mutation")
    session.run("python", "-m", "tests.mutation", *session.posargs)


@nox.session
def evidence(session: nox.Session) -> None:
    """The promises' tests in full, and the page on evidence from all records; takes long.

    For instance: nox --session evidence -- --small
    """
    sync(session, "test")
    session.run("python", "-m", "tests.evidence", "--run", *session.posargs)
    sync(session, "test", "httpcore2")
    session.run_install("uv", "pip", "uninstall", "--quiet", "httpcore")
    other = {"PENSTOCK_HTTPCORE": "httpcore2"}
    session.run("python", "-m", "tests.evidence", "--run", *session.posargs, env=other)


@nox.session
def package(session: nox.Session) -> None:
    """The sdist and the wheel: what an index would show, and the README with the wheel alone."""
    built = Path(session.create_tmp()) / "dist"
    shutil.rmtree(built, ignore_errors=True)
    session.run("uv", "build", "--quiet", f"--out-dir={built}", external=True)
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    session.install(str(wheel))
    session.run("python", "-I", "tests/tools/readme_alone.py")
    session.run("penstock", "--version")
    session.install(*nox.project.dependency_groups(nox.project.load_toml(), "release"))
    session.run("twine", "check", "--strict", str(wheel), str(sdist))


@nox.session
def demo(session: nox.Session) -> None:
    """The demo on the embedded model."""
    sync(session, "demo")
    session.run("penstock", "demo", *session.posargs)


@nox.session
def changelog(session: nox.Session) -> None:
    """What the fragments in docs/changes would add to CHANGELOG.md."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml(), "release"))
    session.run("towncrier", "build", "--draft", "--version", "unreleased", *session.posargs)
