"""The keywords of the SDK's clients, for type checkers; releases differ in which there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypedDict

from openai import NotGiven, Timeout

__all__ = ["AsyncAzureOptions", "AsyncOptions", "AzureOptions", "Options"]


class _Common(TypedDict, total=False):
    admin_api_key: str | None
    organization: str | None
    project: str | None
    webhook_secret: str | None
    websocket_base_url: Any
    workload_identity: Any
    max_retries: int
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, object] | None
    _strict_response_validation: bool
    _enforce_credentials: bool


class _OpenAI(_Common, total=False):
    base_url: Any
    provider: Any
    data_residency: Any


class _Azure(_Common, total=False):
    azure_endpoint: str | None
    azure_deployment: str | None
    api_version: str | None
    azure_ad_token: str | None
    base_url: str | None


class Options(_OpenAI, total=False):
    """Keywords of `openai.OpenAI` beside `timeout` and `http_client`."""

    api_key: str | Callable[[], str] | None


class AsyncOptions(_OpenAI, total=False):
    """Keywords of `openai.AsyncOpenAI` beside `timeout` and `http_client`."""

    api_key: str | Callable[[], Awaitable[str]] | None


class AzureOptions(_Azure, total=False):
    """Keywords of `openai.AzureOpenAI` beside `timeout` and `http_client`."""

    api_key: str | Callable[[], str] | None
    azure_ad_token_provider: Callable[[], str] | None


class AsyncAzureOptions(_Azure, total=False):
    """Keywords of `openai.AsyncAzureOpenAI` beside `timeout` and `http_client`."""

    api_key: str | Callable[[], Awaitable[str]] | None
    azure_ad_token_provider: Callable[[], str | Awaitable[str]] | None


SDKTimeout = float | Timeout | None | NotGiven
