"""What one call must not show: its API keys, secret headers, and the proxy's password."""

from __future__ import annotations

from typing import TypeVar

from .._wire.credentials import forget_variables, header_secrets, target_secrets
from ..errors import PenstockError
from .call import Call, Service
from .redact import redact_error, redact_text

__all__ = ["Secrets"]

E = TypeVar("E", bound=PenstockError)


class Secrets:
    """Masks one call's secrets, wherever a server may have sent them back."""

    __slots__ = ("_earlier", "_headers", "_keys", "_proxy", "_target")

    def __init__(self, service: Service, call: Call) -> None:
        # A callable may give each attempt another key: an error of the second may show the first,
        # or that of a call before.
        self._keys: list[str] = []
        self._earlier = service.recent_keys
        # Searched when there is something to mask, not for each call. The body is not kept.
        self._headers = call.outgoing.headers
        self._target = call.outgoing.target
        self._proxy = service.connections.dialer.proxy

    @property
    def key(self) -> str | None:
        """The key of the current attempt; None where none is sent."""
        return self._keys[-1] if self._keys else None

    def add_key(self, key: str | None) -> None:
        """Note the key of the next attempt."""
        if key is not None and self.key != key:
            self._keys.append(key)
            if key not in self._earlier:
                self._earlier.append(key)

    def mask(self, error: E) -> E:
        """Return the error, every secret in it, its causes and the frames below masked."""
        forget_variables(error)
        return redact_error(error, *self._all())

    def mask_text(self, text: str | None) -> str | None:
        """Return the text, every secret in it masked."""
        return text and redact_text(text, *self._all())

    def _all(self) -> list[str | None]:
        secrets: list[str | None] = [*self._earlier, *self._keys]
        secrets += header_secrets(self._headers)
        secrets += target_secrets(self._target)
        if self._proxy is not None:
            secrets += [self._proxy.password, *header_secrets(self._proxy.authorization)]
        return secrets
