"""Running a command on an event loop: its status, its errors as they are, Ctrl-C."""

from __future__ import annotations

import subprocess
import sys

import anyio.lowlevel
import pytest

from penstock.cli.run import run_async


@pytest.mark.parametrize("backend", ["asyncio", "trio", "uvloop"])
def test_the_status_is_the_commands(backend: str) -> None:
    async def command() -> int:
        await anyio.lowlevel.checkpoint()
        return 7

    assert run_async(command, backend) == 7


@pytest.mark.parametrize("backend", ["asyncio", "trio", "uvloop"])
def test_an_error_comes_out_as_it_is(backend: str) -> None:
    async def command() -> int:
        await anyio.lowlevel.checkpoint()
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run_async(command, backend)


@pytest.mark.parametrize("backend", ["trio", "uvloop"])
def test_a_backend_that_is_not_installed_says_how_to(
    backend: str,
) -> None:
    code = (
        "import sys\n"
        "from penstock.cli import main\n"
        f"sys.modules[{backend!r}] = None\n"
        "url = 'http://127.0.0.1:1/v1'\n"
        f"sys.exit(main(['chat', 'hi', '--base-url', url, '--backend', {backend!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"penstock: the backend {backend} needs: pip install {backend}\n"
