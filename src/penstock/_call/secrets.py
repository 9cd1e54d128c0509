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

    __slots__ = ("_earlier", "_keys", "_others")

    def __init__(self, service: Service, call: Call) -> None:
        # A callable may give each attempt another key: an error of the second may show the first,
        # or that of a call before.
        self._keys: list[str] = []
        self._earlier = service.recent_keys
        outgoing = call.outgoing
        self._others: list[str | None] = [
            *header_secrets(outgoing.headers),
            *target_secrets(outgoing.target),
        ]
        proxy = service.connections.dialer.proxy
        if proxy is not None:
            self._others += [proxy.password, *header_secrets(proxy.authorization)]

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
        return [*self._earlier, *self._keys, *self._others]
