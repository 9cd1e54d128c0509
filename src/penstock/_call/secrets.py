"""What one call must not show: its API keys, secret headers, and the proxy's password."""

from __future__ import annotations

from typing import TypeVar

from .._http.outgoing import Outgoing
from .._wire.credentials import forget_variables, header_secrets, target_secrets
from ..errors import PenstockError
from .call import Service
from .redact import redact_error, redact_text

__all__ = ["Secrets"]

E = TypeVar("E", bound=PenstockError)


class Secrets:
    """Masks one call's secrets, wherever a server may have sent them back.

    Made when there is something to mask. `before` has those of earlier attempts: an error of the
    second attempt may show the key of the first.
    """

    __slots__ = ("_before", "_head", "_key", "_proxy", "_recent_keys")

    def __init__(
        self,
        service: Service,
        outgoing: Outgoing,
        key: str | None = None,
        before: Secrets | None = None,
    ) -> None:
        # Neither the service, which has connections, nor the body is kept.
        self._head = outgoing.head
        self._key = key
        self._recent_keys = service.recent_keys
        self._proxy = service.connections.dialer.proxy
        self._before = before

    def mask(self, error: E) -> E:
        """Return the error, every secret in it, its causes and the frames below masked."""
        forget_variables(error)
        return redact_error(error, *self._all())

    def mask_text(self, text: str | None) -> str | None:
        """Return the text, every secret in it masked."""
        return text and redact_text(text, *self._all())

    def _all(self) -> list[str | None]:
        secrets: list[str | None] = []
        each: Secrets | None = self
        while each is not None:
            secrets += [each._key, *each._recent_keys]
            secrets += header_secrets(each._head.fields)
            secrets += target_secrets(each._head.target)
            if each._proxy is not None:
                secrets += [each._proxy.password, *header_secrets(each._proxy.authorization)]
            each = each._before
        return secrets
