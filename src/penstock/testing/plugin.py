"""The fixtures that pytest finds by itself if penstock is installed.

They import nothing before they are used. Their names can be overridden, and
`pytest -p no:penstock` turns them off.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .cassette import Cassette
    from .clock import Backend
    from .memory import MemoryNetwork
    from .script import Script
    from .server import Server

_BACKENDS: dict[str, Backend] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
_INSTALLED = [name for name in _BACKENDS if find_spec(name) is not None]
REAL_BACKENDS = [pytest.param(_BACKENDS[name], id=name) for name in _INSTALLED]
VIRTUAL_BACKENDS = [
    pytest.param(name, id=f"{name}-virtual") for name in _INSTALLED if name != "uvloop"
]


@pytest.fixture(scope="module", params=REAL_BACKENDS)
def real_backend(request: pytest.FixtureRequest) -> Backend:
    """For anyio's fixture `anyio_backend`: asyncio, and uvloop and trio where installed."""
    backend: Backend = request.param
    return backend


@pytest.fixture(scope="module", params=VIRTUAL_BACKENDS)
def virtual_backend(request: pytest.FixtureRequest) -> Backend:
    """For anyio's fixture `anyio_backend`: asyncio, and trio if installed, in virtual time."""
    from .clock import virtual

    return virtual(request.param)


@pytest.fixture
def memory_network() -> Generator[Callable[..., MemoryNetwork]]:
    """Makes a `MemoryNetwork` of a script: `memory_network(text_reply("Hi"), delay=1)`.

    After the test, an error of the script is raised. A connection that is still open then, with
    an answer in flight, is a LeakError; idle connections are not.
    """
    from .leaks import LeakError, describe_connection
    from .memory import MemoryNetwork

    made: list[MemoryNetwork] = []

    def make(script: Script, **options: Any) -> MemoryNetwork:
        network = MemoryNetwork(script, **options)
        made.append(network)
        return network

    yield make
    for network in made:
        if network.errors:
            raise network.errors[0]
    left = [each for network in made for each in network.connections if each.open]
    busy = [describe_connection(each) for each in left if each.in_flight]
    if busy:
        raise LeakError("left open:\n" + "\n".join(busy))


@pytest.fixture
def scripted_server() -> Generator[Callable[[Script], Server]]:
    """Starts a server on loopback, in a thread: `scripted_server(text_reply("Hi")).base_url`.

    For any client, also a blocking one or another process. It stops after the test, and raises
    an error of the script then.
    """
    from contextlib import ExitStack

    from .server import serve_in_thread

    with ExitStack() as stack:
        yield lambda script: stack.enter_context(serve_in_thread(script))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says what cassettes do."""
    parser.getgroup("penstock").addoption(
        "--cassettes",
        choices=["replay", "record", "hybrid"],
        default="replay",
        help="what the fixture `cassette` does: only answer from its files (default), "
        "record them anew, or record what is missing",
    )


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Generator[Cassette]:
    """A `Cassette` with a file for the test: `cassettes/test_module/test_name.json` beside it.

    `pytest --cassettes=record` or `--cassettes=hybrid` records; otherwise nothing is sent.
    """
    from .cassette import Cassette

    node: pytest.Item = request.node  # pyright: ignore[reportUnknownMemberType]
    # The name has the parameters of the test.
    name = "".join(each if each.isalnum() or each in "-_." else "-" for each in node.name)
    path = node.path.parent / "cassettes" / node.path.stem / f"{name}.json"
    mode: Any = request.config.getoption("--cassettes")
    made = Cassette(path, mode)
    yield made
    made.save()


@pytest.fixture
def check_leaks() -> Generator[None]:
    """Fails a test that leaves a connection or a socket open: `no_leaks()` around the test.

    It does not check tasks; `async with no_leaks()` does. List it before fixtures that open
    clients and servers, so that it checks after they are closed.
    """
    from .leaks import no_leaks

    with no_leaks():
        yield
