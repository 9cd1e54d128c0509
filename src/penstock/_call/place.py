"""Says in an error where its request went: provider, method and URL."""

from __future__ import annotations

from .._http.outgoing import Outgoing
from .._wire.credentials import shown_target
from .._wire.excerpt import one_line
from ..errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    PenstockError,
    StreamClosedError,
    StreamError,
)
from ..providers import OPENAI
from .call import Service
from .secrets import Secrets

__all__ = ["add_place"]

_KINDS = (APIStatusError, APIConnectionError, APIResponseError, StreamError)
_LONGEST = 200  # characters of a URL


def add_place(error: PenstockError, service: Service, outgoing: Outgoing, secrets: Secrets) -> None:
    """Add the place to the message of an error that the server or the way to it has caused.

    Once, and not where a message names the server already. The place shows no secret.
    """
    if not isinstance(error, _KINDS) or isinstance(error, StreamClosedError):
        return
    origin = service.connections.dialer.origin
    # Masked before it is cut, which may leave the beginning of a secret; and before it is
    # looked for in the message, whose secrets are masked if the place is in it.
    target = secrets.mask_text(shown_target(outgoing.target))
    url = one_line(f"{origin.scheme}://{origin.authority}{target}", _LONGEST)
    place = f"{outgoing.method} {url}"
    message = str(error)
    if place in message:
        return
    if isinstance(error, APIConnectionError) and origin.host_and_port in message:
        return
    # "openai" also stands for the rules that other servers follow.
    if service.provider not in (None, OPENAI.name) or f"//{origin.host}/" in OPENAI.base_url:
        place = f"{service.provider}: {place}"
    error.args = (f"{message} ({place})", *error.args[1:])
