"""How a call to one of several servers is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

from .._call.call import Call, Service
from .._call.route import Fleet, Route
from .._http.outgoing import Outgoing
from .._http.pieces import Pieces
from .._policy.servers import Servers
from .._wire.query import Query
from .._wire.request import RequestHeaders
from .._wire.url import BaseURL
from ..timeouts import Timeouts
from .endpoint import JSON, Endpoint, Heads, accept_of

__all__ = ["Session", "SessionRule", "SpreadEndpoint"]

Session = str | int
"""The name of a session: its calls go to one server."""

SessionRule = str | Callable[[Mapping[str, Any]], Session | None]
"""The member of a request that names its session, or a function that returns the name."""


class SpreadEndpoint(Endpoint):
    """Several servers' endpoints as one. Arguments are checked with the first one's settings."""

    __slots__ = ("endpoints", "fleet", "rule")

    def __init__(
        self, endpoints: Sequence[Endpoint], servers: Servers, rule: SessionRule | None
    ) -> None:
        first = endpoints[0]
        self.service: Service = first.service
        self.base_url: BaseURL = first.base_url
        self.headers: RequestHeaders = first.headers
        self._heads: Heads = {}
        self.timeouts: Timeouts = first.timeouts
        self.max_retries: int = first.max_retries
        # One body serves all: without a provider's rules, unless it is that of all.
        same = all(endpoint.provider == first.provider for endpoint in endpoints)
        self.provider: str | None = first.provider if same else None
        self.endpoints: Sequence[Endpoint] = endpoints
        self.fleet: Fleet = Fleet([endpoint.service for endpoint in endpoints], servers)
        self.rule: SessionRule | None = rule

    def options_of(self, params: dict[str, Any]) -> dict[str, Any]:
        """Take the arguments of `call` out of those of `create`."""
        session = self.session_of(params, params.pop("session", None))
        return {**super().options_of(params), "session": session}

    def session_of(self, request: object, given: object) -> str | None:
        """Return the session of a request; TypeError if it is not a name."""
        rule = self.rule
        if given is None and rule is not None and _is_request(request):
            given = request.get(rule) if isinstance(rule, str) else rule(request)
        if given is None:
            return None
        if isinstance(given, bool) or not isinstance(given, (str, int)):
            raise TypeError(
                f"session must be a string or a whole number, not {type(given).__name__}"
            )
        return str(given)

    def call(
        self,
        method: str,
        path: str,
        body: bytes | Pieces | None = None,
        *,
        session: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Call:
        """A call to a path below the base URLs. ValueError or TypeError before any I/O."""
        call = super().call(
            method, path, body, extra_headers=extra_headers, extra_query=extra_query, **options
        )
        recipe = _Recipe(
            self.endpoints,
            call.outgoing,
            path=path,
            has_body=body is not None,
            accept=accept_of(options.get("accept"), streaming=call.streaming),
            content_type=options.get("content_type", JSON),
            extra_headers=dict(extra_headers or {}),
            query=Query.of(extra_query, "extra_query"),
        )
        route = Route(self.fleet, recipe.outgoing, session)
        return msgspec.structs.replace(call, route=route)


def _is_request(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


class _Recipe:
    """Makes the request of one call for each server. An object, as its parts may be secret."""

    __slots__ = ("_endpoints", "_first", "_has_body", "_options", "_path")

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        first: Outgoing,
        *,
        path: str,
        has_body: bool,
        **options: Any,
    ) -> None:
        self._endpoints = endpoints
        self._first = first
        self._path = path
        self._has_body = has_body
        self._options = options

    def outgoing(self, index: int) -> Outgoing:
        """Return the request for the server with this index."""
        if index == 0:
            return self._first
        body = (self._first.pieces or self._first.body) if self._has_body else None
        return self._endpoints[index].outgoing(
            self._first.method, self._path, body, **self._options
        )
