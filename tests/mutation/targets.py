"""Which tests a module's mutants are run against: its mirror, and quick neighbours."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PACKAGES", "ROOT", "modules_of", "selection", "source_of"]

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "penstock._wire",
    "penstock._policy",
    "penstock._call",
    "penstock._limiter",
    "penstock._many",
)

# Beside the mirror test module, relative to tests/. A rule that one module states and another
# one shows is tested where it shows.
_NEIGHBOURS: dict[str, tuple[str, ...]] = {
    "penstock._call.call": ("client/test_client.py", "call/test_attempts.py"),
    "penstock._many.cancellation": ("call/test_attempts.py",),
    "penstock._many.feed": ("many/test_fan_out.py",),
    "penstock._call.reader": ("call/test_stream.py", "observing/test_events.py"),
    "penstock._call.reports": ("observing/test_events.py",),
    "penstock._call.attempts": (
        "call/test_stream.py",
        "limiter/test_limiter.py",
        "observing/test_events.py",
    ),
    "penstock._limiter.slots": ("limiter/test_limiter.py",),
    "penstock._call.stream": ("call/test_stream_tools.py", "observing/test_events.py"),
    "penstock._call.timings": ("call/test_stream.py",),
    "penstock._call.views": ("call/test_stream.py", "call/test_stream_tools.py"),
    "penstock._wire.accumulate": ("wire/test_complete_calls.py",),
    "penstock._wire.credentials": ("call/test_redact.py",),
    "penstock._wire.excerpt": (
        "wire/test_excerpt_depth.py",
        "wire/test_stream_error.py",
        "wire/test_status.py",
    ),
    "penstock._wire.stream_error": ("wire/test_excerpt_depth.py",),
    "penstock._wire.tool_calls": ("wire/test_complete_calls.py",),
}


def modules_of(name: str) -> list[str]:
    """The modules of a package, or the module itself; SystemExit if there is neither."""
    path = ROOT / "src" / Path(*name.split("."))
    if path.is_dir():
        return [f"{name}.{file.stem}" for file in sorted(path.glob("[!_]*.py"))]
    if path.with_suffix(".py").is_file():
        return [name]
    raise SystemExit(f"no module or package {name}")


def source_of(module: str) -> Path:
    """The module's file, relative to the root."""
    return Path("src", *module.split(".")).with_suffix(".py")


def selection(module: str) -> list[str]:
    """The test files, relative to the root."""
    _, package, name = module.split(".")
    mirror = f"{package.removeprefix('_')}/test_{name}.py"
    files = [f"tests/{file}" for file in (mirror, *_NEIGHBOURS.get(module, ()))]
    return [file for file in files if (ROOT / file).is_file()]
