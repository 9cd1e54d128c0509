"""`Spread`: several servers behind one client's face."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn, Unpack, overload

import anyio
import msgspec

from .._call.event_stream import EventStream
from .._call.response_stream import ResponseStream
from .._http.pieces import Content
from .._limiter.limiter import Limiter
from .._policy.servers import Server, Servers
from .._wire.credentials import hides_arguments
from ..errors import PenstockError
from ..timeouts import Timeouts
from ..types import ChatCompletion
from .api_key import APIKey
from .client import AsyncClient
from .params import RequestParams
from .resources import Chat, ChatRequest, Models, TextCompletions
from .response import Response
from .spread_endpoint import Session, SessionRule, SpreadEndpoint
from .warm_up import checked_count

__all__ = ["ServerStatistics", "Spread", "SpreadStatistics"]


class ServerStatistics(msgspec.Struct, frozen=True):
    """One server of a `Spread` at one moment."""

    base_url: str
    """Its URL."""
    in_flight: int
    """Requests that are sent to it now, or wait for its limiter; open streams included."""
    failures: int
    """How often it failed in a row; 0 if it is in."""
    out_for: float
    """Seconds until a request finds out whether it is back; 0 if it is in, or that is due."""
    probed: bool
    """True while a request finds out whether it is back."""


class SpreadStatistics(msgspec.Struct, frozen=True):
    """A `Spread` at one moment."""

    open_calls: int
    """Calls that hold, or wait for, a slot of a limiter or a connection; open streams included."""
    idle_connections: int
    """Connections that are kept for the next call, to all servers together."""
    servers: list[ServerStatistics]
    """The servers, in their order."""


class Spread:
    """Several servers behind one client's face: `Spread([client, client])`.

    It has the methods of `AsyncClient`, and everything that takes a client takes it: fan-outs,
    races, batches. Each client keeps its own base URL, key, headers, proxy, connections and
    limiter. `timeouts` and `max_retries` are those of the first client, for all calls that give
    none. It owns its clients: `aclose()` and `async with` close them. A client that is closed by
    itself gets no further requests.

    - A request goes to the server with the fewest requests in flight; among equals they take
      turns. Servers whose limiter would make it wait, and those that have just asked for a pause
      (429), come after the others.
    - `session` keeps requests together, for servers with a prefix cache: it names a member of the
      request (`session="user"`), or is a function of the request that returns a name, or None for
      no session. A call may give its own: `create(..., session="abc")`, which is never sent. The
      requests of one session go to one server as long as that is in. A server more or less moves
      only the sessions that must move, and every process makes the same choice.
    - A server is out after a failed connection, a timeout before the response has begun, or a 502,
      503 or 504: for a second, doubled with each failure up to 30, or as long as it asks for. Then
      a single request finds out whether it is back. If all are out, a request goes to the one
      that is due first.
    - A failed attempt is retried as with one client, `max_retries` times in all, and only while no
      byte of the response body has arrived. If there is a server that has not failed the request,
      it goes there at once; otherwise it waits as with one client. A call with a session changes
      the server only if its own is out.
    - A client's observer is told of the calls to its server. A call that moves to another server
      begins and ends for the observers of both; an observer that they share is told once.

    Creating it does no I/O. TypeError or ValueError if there is no client,
    one is given twice, or something is not an `AsyncClient`.
    """

    def __init__(
        self, clients: Iterable[AsyncClient], *, session: SessionRule | None = None
    ) -> None:
        members = list(clients)
        for client in members:
            if not isinstance(client, AsyncClient):
                raise TypeError(
                    f"a Spread takes penstock.AsyncClient objects, not {type(client).__name__}"
                )
        if not members:
            raise ValueError("a Spread needs at least one client")
        if len({id(client) for client in members}) < len(members):
            raise ValueError("a Spread takes each client once")
        if session is not None and not (isinstance(session, str) or callable(session)):
            raise TypeError(
                "session must be the name of a request's member, or a function of the request,"
                f" not {type(session).__name__}"
            )
        servers = Servers([str(client.endpoint.base_url) for client in members])
        self._set(members, servers, session)

    def _set(
        self, clients: Sequence[AsyncClient], servers: Servers, rule: SessionRule | None
    ) -> None:
        endpoint = SpreadEndpoint([client.endpoint for client in clients], servers, rule)
        self.clients: tuple[AsyncClient, ...] = tuple(clients)
        """The clients, one for each server."""
        self._endpoint = endpoint
        self.chat: Chat = Chat(endpoint)
        """Chat completions: `spread.chat.completions.create(...)` and `.stream(...)`."""
        self.completions: TextCompletions = TextCompletions(endpoint)
        """Text completions of the legacy endpoint: `spread.completions.create(...)`."""
        self.models: Models = Models(endpoint)
        """The models of one of the servers: `await spread.models.list()`."""

    @hides_arguments
    def with_options(
        self,
        *,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        max_retry_wait: float | None = None,
        headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, Any] | None = None,
        api_key: APIKey | None = None,
        limiter: Limiter | None = None,
        observer: object | None = None,
    ) -> Spread:
        """Return a Spread with other settings over the same servers; see `AsyncClient`.

        What is known of the servers is shared: who is in, and how many requests are in flight.
        """
        clients = [
            client.with_options(
                timeouts=timeouts,
                max_retries=max_retries,
                max_retry_wait=max_retry_wait,
                headers=headers,
                default_query=default_query,
                api_key=api_key,
                limiter=limiter,
                observer=observer,
            )
            for client in self.clients
        ]
        spread = type(self).__new__(type(self))
        spread._set(clients, self._endpoint.fleet.servers, self._endpoint.rule)
        spread._endpoint.fleet.is_closed = self._endpoint.fleet.is_closed
        return spread

    async def warm(self, n: int = 1) -> int:
        """Connect to every server in advance; return how many idle connections are ready.

        `n` is the number of connections for each server. A server that cannot be reached is
        left out; if none can be, the error of the first is raised, as by `AsyncClient.warm`.
        """
        errors: dict[int, PenstockError] = {}
        ready = [0] * len(self.clients)

        async def warm(index: int, client: AsyncClient) -> None:
            try:
                ready[index] = await client.warm(n)
            except PenstockError as error:
                errors[index] = error

        checked_count(n)  # raised in no exception group
        async with anyio.create_task_group() as group:
            for index, client in enumerate(self.clients):
                group.start_soon(warm, index, client)
        if len(errors) == len(self.clients):
            raise errors[0]
        return sum(ready)

    @overload
    async def complete(
        self,
        request: ChatRequest | None = None,
        *,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[RequestParams],
    ) -> ChatCompletion: ...

    @overload
    async def complete(self, *, _from_mapping: object, **params: Any) -> ChatCompletion: ...

    @hides_arguments
    async def complete(
        self,
        request: ChatRequest | None = None,
        *,
        session: Session | None = None,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> ChatCompletion:
        """Return one completion, as `AsyncClient.complete` does."""
        options = {
            "session": session,
            "timeouts": timeouts,
            "max_retries": max_retries,
            "extra_headers": extra_headers,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return await self._endpoint.complete({**(request or {}), **params, **given})

    @hides_arguments
    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: Content | None = None,
        session: Session | None = None,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return one server's response of any endpoint, as `AsyncClient.request` does."""
        return await self._endpoint.request(
            method,
            path,
            json=json,
            content=content,
            session=self._endpoint.session_of(json, session),
            timeouts=timeouts,
            max_retries=max_retries,
            extra_headers=extra_headers,
        )

    @hides_arguments
    def events(
        self,
        path: str,
        *,
        json: object = None,
        method: str = "POST",
        done: Collection[str] = (),
        session: Session | None = None,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> EventStream:
        """Return the server-sent events of any endpoint, as `AsyncClient.events` does."""
        return self._endpoint.events(
            path,
            json=json,
            method=method,
            done=done,
            session=self._endpoint.session_of(json, session),
            timeouts=timeouts,
            max_retries=max_retries,
            extra_headers=extra_headers,
        )

    @hides_arguments
    def stream(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: Content | None = None,
        check_status: bool = True,
        session: Session | None = None,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> ResponseStream:
        """Return the body of any endpoint's response as bytes, as `AsyncClient.stream` does."""
        return self._endpoint.raw_stream(
            method,
            path,
            json=json,
            content=content,
            check_status=check_status,
            session=self._endpoint.session_of(json, session),
            timeouts=timeouts,
            max_retries=max_retries,
            extra_headers=extra_headers,
        )

    def statistics(self) -> SpreadStatistics:
        """Return numbers of this moment. To be called in the event loop."""
        now = anyio.current_time()
        clients = [client.statistics() for client in self.clients]
        servers = self._endpoint.fleet.servers.all
        return SpreadStatistics(
            open_calls=sum(numbers.open_calls for numbers in clients),
            idle_connections=sum(numbers.idle_connections for numbers in clients),
            servers=[
                _numbers(client, server, now)
                for client, server in zip(self.clients, servers, strict=True)
            ],
        )

    async def __aenter__(self) -> Spread:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every open stream, and the clients. Idempotent.

        A task that is reading a stream gets StreamClosedError. The clients' idle connections are
        closed gracefully, each client's within its `Timeouts.close`.
        """
        self._endpoint.fleet.is_closed = True
        try:
            async with anyio.create_task_group() as group:
                for client in self.clients:
                    group.start_soon(client.aclose)
        finally:
            self.close()

    def close(self) -> None:
        """Close every open stream and all connections at once, without waiting. Idempotent.

        Needs no event loop, as `AsyncClient.close`.
        """
        self._endpoint.fleet.is_closed = True
        for client in self.clients:
            client.close()

    @property
    def endpoint(self) -> SpreadEndpoint:
        """Its settings, for penstock's own use."""
        return self._endpoint

    def __reduce__(self) -> NoReturn:
        self.clients[0].__reduce__()

    def __repr__(self) -> str:
        urls = ", ".join(str(client.endpoint.base_url) for client in self.clients)
        return f"<Spread {urls}>"


def _numbers(client: AsyncClient, server: Server, now: float) -> ServerStatistics:
    return ServerStatistics(
        base_url=str(client.endpoint.base_url),
        in_flight=len(server.places),
        failures=server.failures,
        out_for=max(0.0, server.out_until - now),
        probed=server.probe is not None,
    )
