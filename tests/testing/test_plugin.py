"""pytest finds the fixtures by itself, and is not slowed down or disturbed by them."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from penstock.testing.answers import text_reply
from penstock.testing.server import serve_in_thread

if TYPE_CHECKING:
    from pathlib import Path

CLIENT = """
    import anyio
    import pytest
    import penstock
    from penstock.testing import Stall, cut_after_events, text_reply

    REQUEST = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
    URL = "http://api.test/v1"
"""

# Somebody's project, with nothing but penstock and anyio's plugin.
FILES = {
    "test_others": """
        import pytest

        @pytest.mark.anyio
        async def test_as_they_were(anyio_backend_name):
            pass
    """,
    "test_real": """
        import asyncio
        import pytest
        from penstock.testing.plugin import real_backend as anyio_backend

        @pytest.mark.anyio
        async def test_real(anyio_backend_name):
            loop = None if anyio_backend_name == "trio" else asyncio.get_running_loop()
            print("on", type(loop).__module__.partition(".")[0])
    """,
    "test_virtual": CLIENT
    + """
    @pytest.fixture(scope="module")
    def anyio_backend(virtual_backend):
        return virtual_backend

    @pytest.mark.anyio
    async def test_slow(memory_network):
        network = memory_network(text_reply("Hel", "lo", every=60))
        async with penstock.AsyncClient(URL, network=network) as client:
            answer = await client.complete(REQUEST)
        assert answer.choices[0].message.content == "Hello"
        assert anyio.current_time() >= 4 * 60
    """,
    "test_memory": CLIENT
    + """
    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    @pytest.fixture
    def network(memory_network):
        return memory_network(text_reply("a").then(Stall()))

    async def test_left(network):
        global stream
        client = penstock.AsyncClient(URL, network=network)
        stream = client.chat.completions.stream(**REQUEST)
        await anext(aiter(stream))  # sent here

    async def test_closed(network):
        async with penstock.AsyncClient(URL, network=network) as client:
            async with client.chat.completions.stream(**REQUEST) as stream:
                await anext(aiter(stream))

    async def test_idle(memory_network):
        network = memory_network(text_reply("a"))
        global client
        client = penstock.AsyncClient(URL, network=network)
        await client.complete(REQUEST)

    async def test_broken_script(memory_network):
        network = memory_network(lambda request: 1 / 0)
        async with penstock.AsyncClient(URL, network=network) as client:
            with pytest.raises(penstock.PenstockError):
                await client.complete(REQUEST)
    """,
    "test_server": CLIENT
    + """
    def test_any_client(check_leaks, scripted_server):
        first = scripted_server(text_reply("one"))
        second = scripted_server(cut_after_events(text_reply("one"), 1))
        for server in (first, second):
            with penstock.Client(server.base_url, max_retries=0) as client:
                try:
                    assert client.complete(REQUEST).choices[0].message.content == "one"
                except penstock.StreamInterruptedError:
                    assert server is second
            assert len(server.requests) == 1

    def test_broken_script_on_a_server(scripted_server):
        server = scripted_server(lambda request: 1 / 0)
        with penstock.Client(server.base_url, max_retries=0) as client:
            with pytest.raises(penstock.APIConnectionError):
                client.complete(REQUEST)
    """,
    "test_leaks": """
        import socket

        def test_left_socket(check_leaks):
            global sock
            sock = socket.socket()  # opened here

        def test_closed_socket(check_leaks):
            sock.close()
            socket.socket().close()
    """,
}


def run(folder: Path, *options: str) -> str:
    """What pytest says about the tests in that folder, the plugins of this suite left out."""
    plugins = [f"-pno:{name}" for name in ("xdist", "timeout", "hypothesispytest")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-rA", "-v", "-Wignore", *options, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    return done.stdout


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(dedent(text))
    return run(folder)


CASSETTE = """
    import penstock
    import pytest

    REQUEST = {"model": "m", "messages": [{"role": "user", "content": "?"}]}

    @pytest.mark.parametrize("word", ["a/b", "c d"])
    def test_asks(cassette, word):
        with penstock.Client("BASE_URL", network=cassette, max_retries=0) as client:
            assert client.complete({**REQUEST, "user": word}).text == "Hi"
"""


def test_a_cassette_for_each_test(tmp_path: Path) -> None:
    module = tmp_path / "test_asking.py"
    with serve_in_thread(text_reply("Hi")) as server:
        module.write_text(dedent(CASSETTE).replace("BASE_URL", server.base_url))
        text = run(tmp_path)
        assert set(outcomes(text, "test_asks").values()) == {"ERROR"}
        assert "FileNotFoundError" in text
        assert set(outcomes(run(tmp_path, "--cassettes=hybrid"), "test_asks").values()) == {
            "PASSED"
        }
        assert len(server.requests) == 2
        run(tmp_path, "--cassettes=record")
        assert len(server.requests) == 4
    assert set(outcomes(run(tmp_path), "test_asks").values()) == {"PASSED"}
    assert sorted(path.name for path in (tmp_path / "cassettes" / "test_asking").iterdir()) == [
        *("test_asks-a-b-.json", "test_asks-c-d-.json")
    ]


def outcomes(report: str, test: str) -> dict[str, str]:
    """How each case of a test went, and its teardown, where that failed: ERROR."""
    return dict(re.findall(rf"::{test}(?:\[(.+?)\])? (PASSED|FAILED|ERROR)", report))


def failure_of(report: str, test: str) -> str:
    """The part of the report about the teardown of a test."""
    return report.partition(f"ERROR at teardown of {test} ")[2].partition("\n____")[0]


def test_the_entry_point() -> None:
    (entry,) = entry_points(group="pytest11", name="penstock")
    assert entry.value == "penstock.testing.plugin"


def test_a_session_that_uses_none_of_it_imports_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    print('loaded', *sorted(n for n in sys.modules if n.startswith('penstock')))\n"
        "    assert not {'httpcore', 'httpcore2', 'msgspec', 'h11'} & set(sys.modules)\n"
    )
    text = run(tmp_path)
    assert outcomes(text, "test_it") == {"": "PASSED"}
    loaded = re.search("^loaded (.*)$", text, re.MULTILINE)
    assert loaded is not None
    assert loaded[1].split() == [
        "penstock",
        "penstock._exports",
        "penstock.testing",
        "penstock.testing.plugin",
    ]


def test_async_tests_of_others_are_as_they_were(report: str) -> None:
    assert outcomes(report, "test_as_they_were") == {"asyncio": "PASSED", "trio": "PASSED"}


def test_real_backends(report: str) -> None:
    assert outcomes(report, "test_real") == dict.fromkeys(["asyncio", "uvloop", "trio"], "PASSED")
    assert re.findall("^on (.*)$", report, re.MULTILINE) == ["asyncio", "uvloop", "builtins"]


def test_virtual_time_in_a_module(report: str) -> None:
    expected = dict.fromkeys(["asyncio-virtual", "trio-virtual"], "PASSED")
    assert outcomes(report, "test_slow") == expected


def test_what_is_left_in_a_memory_network(report: str) -> None:
    assert outcomes(report, "test_left") == {"": "ERROR"}
    text = failure_of(report, "test_left")
    assert "LeakError: left open:" in text
    assert "# sent here" in text
    for test in ("test_closed", "test_idle"):
        assert outcomes(report, test) == {"": "PASSED"}


@pytest.mark.parametrize("test", ["test_broken_script", "test_broken_script_on_a_server"])
def test_an_error_of_the_script_is_raised_after_the_test(report: str, test: str) -> None:
    assert outcomes(report, test) == {"": "ERROR"}
    assert "ZeroDivisionError" in failure_of(report, test)


def test_a_scripted_server_for_any_client(report: str) -> None:
    assert outcomes(report, "test_any_client") == {"": "PASSED"}


def test_what_leaks(report: str) -> None:
    assert outcomes(report, "test_left_socket") == {"": "ERROR"}
    text = failure_of(report, "test_left_socket")
    assert "LeakError: left open:" in text
    assert "# opened here" in text
    assert outcomes(report, "test_closed_socket") == {"": "PASSED"}
