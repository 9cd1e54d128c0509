"""What one call must not show: its API keys, secret headers, and the proxy's password."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from .._http.outgoing import Outgoing
from .._http.proxy import Proxy
from .._wire.credentials import forget_variables, header_secrets, target_secrets
from .._wire.request_head import RequestHead
from ..errors import PenstockError
from .call import Service
from .redact import redact_error, redact_text

__all__ = ["Secrets"]

E = TypeVar("E", bound=PenstockError)


Source = tuple[deque[str], RequestHead, Proxy | None]
"""Where a server's secrets are: keys of earlier calls, the request's head, a proxy."""


class Secrets:
    """Masks one call's secrets, wherever a server may have sent them back."""

    __slots__ = ("_before", "_earlier_keys", "_head", "_proxy", "_recent_keys", "key")

    def __init__(self, service: Service, outgoing: Outgoing) -> None:
        # A callable may give each attempt another key: an error of the second may show the first,
        # or that of a call before.
        self._earlier_keys: tuple[str, ...] = ()
        # Searched when there is something to mask, not for each call. The body is not kept.
        self._recent_keys, self._head, self._proxy = _source(service, outgoing)
        # Of the attempts before, where they went to another server, or had other headers.
        self._before: tuple[Source, ...] = ()
        self.key: str | None = None
        """The key of the current attempt; None where none is sent."""

    def add_server(self, service: Service, outgoing: Outgoing) -> None:
        """Note the server of the next attempt, and the request as that one gets it."""
        if all(recent is not service.recent_keys for recent, *_ in self._sources()):
            self.add_request(service, outgoing)

    def add_request(self, service: Service, outgoing: Outgoing) -> None:
        """Note the request of the next attempt, which has other headers than the first."""
        self._before = self._sources()
        self._recent_keys, self._head, self._proxy = _source(service, outgoing)

    def _sources(self) -> tuple[Source, ...]:
        return *self._before, (self._recent_keys, self._head, self._proxy)

    def add_key(self, service: Service, key: str | None) -> None:
        """Note the key of the next attempt."""
        if self.key is not None and self.key != key:
            self._earlier_keys += (self.key,)
        if key is not None and key not in service.recent_keys:
            service.recent_keys.append(key)
        self.key = key

    def mask(self, error: E) -> E:
        """Return the error, every secret in it, its causes and the frames below masked."""
        forget_variables(error)
        return redact_error(error, *self._all())

    def mask_text(self, text: str | None) -> str | None:
        """Return the text, every secret in it masked."""
        return text and redact_text(text, *self._all())

    def _all(self) -> list[str | None]:
        secrets: list[str | None] = [self.key, *self._earlier_keys]
        for recent, head, proxy in self._sources():
            secrets += recent
            secrets += header_secrets(head.fields)
            secrets += target_secrets(head.target)
            if proxy is not None:
                secrets += [proxy.password, *header_secrets(proxy.authorization)]
        return secrets


def _source(service: Service, outgoing: Outgoing) -> Source:
    proxy = service.connections.dialer.proxy
    return service.recent_keys, outgoing.head, proxy
