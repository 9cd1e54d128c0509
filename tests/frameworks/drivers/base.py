"""The shape of a driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tests.frameworks import clients

__all__ = ["Answer", "Driver"]


@dataclass
class Answer:
    """What a framework says of a model's answer."""

    text: str
    usage: tuple[int, int] | None = None
    """Tokens of the input and of the output."""


class Driver:
    """One framework with one client; `name` is the test's id."""

    name: ClassVar[str]
    final_tool: ClassVar[str | None] = None
    """The tool by which an agent of the framework ends; most end with a text."""
    own_client: ClassVar[bool] = False
    """Whether the framework makes its own client, over a transport of penstock's."""
    gives_back: ClassVar[frozenset[str]] = frozenset()
    """Members of vendors that the framework sends back after a tool call."""

    def __init__(
        self,
        base_url: str,
        *,
        model: str = "gpt-4o-mini",
        tool: Callable[..., str] | None = None,
        stock: bool = clients.STOCK,
        settings: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.base_url = base_url
        self.model = model
        self.tool = tool
        self.stock = stock
        self.settings = dict(settings or {})
        """Further parameters of the request, such as `max_tokens`."""
        self.options = options
        self.kept: list[Any] = []
        """What a user may still hold after leaving a stream: no garbage collection closes it."""
        self.start()

    def start(self) -> None:
        """Make the client, and what the framework builds on it."""
        raise NotImplementedError

    async def ask(self, prompt: str) -> Answer:
        """Get a whole answer, after any calls of the tool."""
        raise NotImplementedError

    async def read(
        self, prompt: str, heard: list[str], *, stop_after: int | None = None
    ) -> Answer | None:
        """Add the pieces of a streamed answer to `heard`.

        With `stop_after` leave after so many pieces, as the framework's documentation says, and
        return None.
        """
        raise NotImplementedError

    async def parse(self, prompt: str, kind: type[Any]) -> Any:
        """Get an answer as a value of a pydantic model."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the clients."""
        raise NotImplementedError
