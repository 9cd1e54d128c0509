from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import ModuleType

import pytest

from penstock._http import lazy

# Names that the package takes from it; httpcore2 has to have them, too.
NAMES = [
    "AsyncHTTP11Connection",
    "AsyncNetworkBackend",
    "AsyncNetworkStream",
    "ProtocolError",
    "RemoteProtocolError",
    "Request",
    "TimeoutException",
    "URL",
]


def load_again() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lazy_again", lazy.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("missing", [None, "httpcore"])
def test_httpcore_or_its_continuation(missing: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = lazy.httpcore.__name__
    if missing is not None:
        if importlib.util.find_spec("httpcore2") is None:
            return
        monkeypatch.setitem(sys.modules, missing, None)
        expected = "httpcore2"
    chosen = load_again().httpcore
    assert chosen.__name__ == expected
    for name in NAMES:
        assert hasattr(chosen, name), name


def test_importing_penstock_loads_nothing_that_does_io() -> None:
    code = (
        "import sys, penstock; "
        "print(*sorted({'httpcore', 'httpcore2', 'h11', 'trio', 'ssl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == ""
