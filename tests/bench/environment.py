"""The machine and the versions, without which no figure means anything."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import msgspec

__all__ = ["Environment", "environment"]

PACKAGES = (
    *("penstock", "httpcore", "httpcore2", "h11", "msgspec", "anyio", "trio", "uvloop"),
    *("openai", "httpx2", "aiohttp", "pyreqwest", "wreq", "httptools"),
)


class Environment(msgspec.Struct):
    """Where and with what the figures were made."""

    python: str
    platform: str
    processor: str
    cores: int
    versions: dict[str, str]
    revision: str = ""
    """Of the repository; + where files differ from it."""


def environment() -> Environment:
    """Of this process."""
    versions: dict[str, str] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{platform.system()} {platform.release().partition('-')[0]}",
        processor=_processor(),
        cores=os.cpu_count() or 0,
        versions=versions,
        revision=_revision(),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def _revision() -> str:
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return ""
    return found.stdout.strip()
