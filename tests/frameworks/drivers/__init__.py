"""How a test drives each framework: one module for each, with one class of the same shape."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import cast

from tests.frameworks.drivers.base import Answer, Driver

__all__ = ["FRAMEWORKS", "Answer", "Driver", "Known", "installed"]


@dataclass(frozen=True)
class Known:
    """A framework that has a driver; nothing of it is imported before `driver()`."""

    module: str
    """The module of its driver."""
    package: str
    """A module of the framework, which tells whether it is installed."""
    lacks: frozenset[str] = frozenset()
    """The checks that the framework has nothing for."""

    @property
    def is_installed(self) -> bool:
        """Whether this environment has the framework."""
        try:
            return find_spec(self.package) is not None
        except ModuleNotFoundError:
            return False

    def driver(self) -> type[Driver]:
        """Import the driver, and the framework with it."""
        module = import_module(f"tests.frameworks.drivers.{self.module}")
        return cast("type[Driver]", module.Framework)


FRAMEWORKS = {
    "pydantic-ai": Known("pydantic_ai", "pydantic_ai"),
    "openai-agents": Known("openai_agents", "agents"),
    "langchain": Known("langchain", "langchain_openai"),
    "agent-framework": Known("agent_framework", "agent_framework_openai"),
    "haystack": Known("haystack", "haystack"),
    "litellm": Known("litellm", "litellm", frozenset({"tools"})),
    # Leaving its run keeps the cancelled answer in a cycle, until the garbage is collected.
    "ag2": Known("ag2", "ag2", frozenset({"leave"})),
    "llama-index": Known("llama_index", "llama_index.llms.openai"),
    "strands": Known("strands", "strands"),
    "instructor": Known("instructor", "instructor", frozenset({"tools"})),
    "smolagents": Known("smolagents", "smolagents", frozenset({"cancel", "parse"})),
}


def installed() -> list[str]:
    """Return the names of the frameworks that this environment has."""
    return [name for name, known in FRAMEWORKS.items() if known.is_installed]
