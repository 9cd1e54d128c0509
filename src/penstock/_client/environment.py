"""What a client takes from the environment: its base URL and its API key."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .._wire.credentials import names_a_credential
from .._wire.request import checked_headers, checked_key
from .._wire.url import BaseURL
from ..providers import Provider

__all__ = ["base_url_for", "key_from_environment"]


def base_url_for(provider: Provider, given: str | None) -> BaseURL:
    """Return the URL that was given, else the environment's, else the provider's own.

    ValueError says what is wrong with it, and names the variable it came from.
    """
    if given is not None:
        return BaseURL.parse(given)
    variable = provider.base_url_env
    url = os.environ.get(variable, "").strip() if variable else ""
    if not url:
        return BaseURL.parse(provider.base_url)
    try:
        return BaseURL.parse(url)
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from None


def key_from_environment(provider: Provider, headers: Mapping[str, str] | None) -> str | None:
    """Return the API key from the provider's own variable, or None if it needs none.

    ValueError names the variable if the key is not valid, or if it is missing although the
    provider needs one and `headers` have no credential in its place.
    """
    variable = provider.api_key_env
    if not variable:
        return None
    key = os.environ.get(variable, "").strip()
    if key:
        try:
            return checked_key(key)
        except ValueError as error:
            raise ValueError(f"{variable}: {error}") from None
    given = checked_headers(headers).values()
    if provider.key_required and not any(names_a_credential(name) for name, _ in given):
        raise ValueError(f"no API key for {provider.name}: set {variable}, or pass api_key=")
    return None
