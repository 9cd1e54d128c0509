"""A client on a scripted network, and the requests that tests send with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from penstock import AsyncClient
from penstock.testing.memory import MemoryNetwork
from penstock.testing.script import Script

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

KEY = "sk-secret-0123456789"
MESSAGES = [{"role": "user", "content": "Hello!"}]
REQUEST: dict[str, Any] = {"model": "test-model", "messages": MESSAGES}
URL = "http://api.test/v1"


def client_on(network: MemoryNetwork | Script, base_url: str = URL, **options: Any) -> AsyncClient:
    """Return a client whose connections go to a scripted network, with a key of its own."""
    if not isinstance(network, MemoryNetwork):
        network = MemoryNetwork(network)
    return AsyncClient(base_url, **{"api_key": KEY, **options}, network=network)


class Served(Protocol):
    """A server on loopback."""

    @property
    def base_url(self) -> str: ...

    def client_ssl_context(self) -> ssl.SSLContext: ...


def client_of(server: Served, **options: Any) -> AsyncClient:
    """Return a client of a server on loopback, which trusts its certificate."""
    if server.base_url.startswith("https"):
        options.setdefault("ssl_context", server.client_ssl_context())
    return AsyncClient(server.base_url, **{"api_key": KEY, "proxy": "", **options})


class Watcher:
    """An observer that keeps every event, with the name of the method it came to."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def of(self, name: str) -> list[Any]:
        return [event for kind, event in self.events if kind == name]

    def outcomes(self) -> Sequence[str]:
        return [event.outcome for event in self.of("finished")]

    def request_started(self, event: object) -> None:
        self.events.append(("request_started", event))

    def attempt_failed(self, event: object) -> None:
        self.events.append(("attempt_failed", event))

    def response_started(self, event: object) -> None:
        self.events.append(("response_started", event))

    def first_token(self, event: object) -> None:
        self.events.append(("first_token", event))

    def finished(self, event: object) -> None:
        self.events.append(("finished", event))
