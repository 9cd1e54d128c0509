"""The arguments, the exit statuses, and how little is imported."""

from __future__ import annotations

import argparse
import subprocess
import sys
import types

import pytest

from penstock import providers
from penstock._version import __version__
from penstock.cli import main
from penstock.cli.options import PROVIDERS


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["chat", "hi", "--provider", "nobody"],
        ["chat", "hi", "--provider", "groq", "--local"],
        ["chat", "hi", "--local", "--base-url", "http://127.0.0.1:1/v1"],
        ["chat", "hi", "--max-tokens", "0"],
        ["chat", "hi", "--temperature", "warm"],
        ["chat", "hi", "--timeout", "0"],
        ["serve", "--port", "-1"],
        ["demo", "--streams", "0"],
        ["demo", "--streams", "many"],
        ["demo", "--backend", "curio"],
    ],
)
def test_arguments_that_make_no_sense_are_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert "usage: penstock" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"penstock {__version__}\n"


def test_the_providers_named_are_the_ones_there_are() -> None:
    shipped = [value for value in vars(providers).values() if isinstance(value, providers.Provider)]
    assert sorted(PROVIDERS) == sorted(provider.name for provider in shipped)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, contextlib\n"
        "from penstock.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['chat', '--help'])\n"
        "heavy = {'anyio', 'asyncio', 'httpcore', 'httpcore2', 'trio', 'ssl', 'rich'}\n"
        "print('loaded:', *sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_python_dash_m() -> None:
    command = [sys.executable, "-m", "penstock", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"penstock {__version__}\n"


def test_a_shell_that_asks_gets_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    argcomplete = types.SimpleNamespace(autocomplete=asked.append)
    monkeypatch.setitem(sys.modules, "argcomplete", argcomplete)
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    with pytest.raises(SystemExit):
        main(["--version"])
    [parser] = asked
    assert isinstance(parser, argparse.ArgumentParser)
