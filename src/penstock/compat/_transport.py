"""What the transports of both generations of httpx share.

`httpx` and its continuation `httpx2` have the same interfaces under different names, so each
class here is given the module: it makes its responses and raises its errors.

    httpx's client ──Request──> call_of ──Call──> ResponseStream.open() ──Response──> its user
                                                        │
                         AsyncBody.__anext__ <── bytes ─┘     (closed on every way out)
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from .._call.base_stream import BaseStream, exchange_of
from .._call.response_stream import ResponseStream
from .._call.stream import CompletionStream
from .._client.arguments import checked_timeouts
from .._http.pieces import Pieces, UnsendableRequest
from .._wire.credentials import hides_arguments
from ..blocking._loop.loop_thread import LoopThread
from ..blocking.stream import ResponseStream as BlockingResponseStream
from ..blocking.stream import Stream
from ..errors import APIStatusError, PenstockError, StreamClosedError
from ..timeouts import Timeouts
from ._bodies import Events, Raises, SyncEvents
from ._calls import call_of, origin_of, pieces_of
from ._errors import httpx_error
from ._homes import Home, Homes, Services
from ._plan import PLAN, RAISES, STREAM, Plan

if TYPE_CHECKING:
    import ssl

    from .._call.call import Call, Service
    from .._http.lazy import httpcore
    from .._limiter.limiter import Limiter
    from .._wire.url import Origin

__all__ = ["AsyncSending", "Sending"]

_CODING = (b"content-encoding", b"content-length")
_CLOSED = "cannot send a request: the transport has been closed"


class Transporting:
    """What both transports have: settings, connections, and requests as calls."""

    _module: Any
    """`httpx` or `httpx2`."""
    _body: Any
    """Makes the stream of a response of that module."""

    @hides_arguments
    def __init__(
        self,
        *,
        timeouts: Timeouts | None = None,
        limiter: Limiter | None = None,
        observer: object | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        uds: str | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
        check_streams: bool = True,
    ) -> None:
        self._timeouts = None if timeouts is None else checked_timeouts(timeouts)
        self._check_streams = check_streams
        self._homes = Homes(
            Services(
                limiter=limiter,
                observer=observer,
                proxy=proxy,
                ssl_context=ssl_context,
                uds=uds,
                network=network,
            )
        )
        self._prepare()

    def _prepare(self) -> None:
        """Make what only one of the two has."""

    @property
    def _grace(self) -> float | None:
        return (self._timeouts or Timeouts()).close

    def _call(
        self, home: Home, origin: Origin, request: Any, body: bytes | Pieces
    ) -> tuple[Service, Call, Plan | None]:
        plan: Plan | None = request.extensions.get(PLAN)
        service = home.service(origin)
        call = call_of(request, body, self._timeouts, plan, check_end=self._check_streams)
        return service, call, plan

    def _comes_in_pieces(self, request: Any) -> bool:
        """Return whether the body is not known as a whole. A planned one is: it may go twice."""
        return not (
            isinstance(request.stream, self._module.ByteStream) or PLAN in request.extensions
        )

    def _raises(self, stream: BaseStream[Any], plan: Plan | None, request: Any) -> Raises:
        if plan is not None and plan.raises is not None:
            return plan.raises
        return partial(_translated, self._module, stream, request.extensions.get(RAISES))

    def _response(
        self, stream: BaseStream[Any], plan: Plan | None, opened: Any, content: Any
    ) -> Any:
        """Return the response of a stream that is open; `content` has its bytes."""
        exchange = exchange_of(stream)
        assert exchange is not None
        headers = exchange.raw_headers
        extensions: dict[str, Any] = {
            "http_version": exchange.http_version,
            "reason_phrase": exchange.reason_phrase,
        }
        if plan is not None:
            extensions["penstock.attempts"] = stream.statistics().attempts
            streamed = plan.stream and 200 <= exchange.status < 300
            if streamed:
                extensions[STREAM] = opened
            if streamed or "content-encoding" in exchange.headers:
                # The body is decoded, and an event stream is written anew.
                headers = [field for field in headers if field[0].lower() not in _CODING]
        return self._module.Response(
            exchange.status, headers=headers, stream=content, extensions=extensions
        )

    def _refusal(self, stream: BaseStream[Any], plan: Plan | None) -> Any:
        """Return the response that a planned call was refused with in the end."""
        exchange = exchange_of(stream)
        assert exchange is not None
        content = self._module.ByteStream(exchange.collected)
        return self._response(stream, plan, None, content)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a transport cannot be pickled or copied, as it owns connections: make another one"
        )

    def __repr__(self) -> str:
        kind = type(self)
        return f"<{kind.__module__}.{kind.__name__}{' closed' if self._homes.closed else ''}>"


class AsyncSending(Transporting):
    """The async transport but for its base class."""

    async def handle_async_request(self, request: Any) -> Any:
        """Send the request; return the response when its head is in, as httpx wants it."""
        origin = origin_of(self._module, request)
        if self._homes.closed:
            raise RuntimeError(_CLOSED)
        body: bytes | Pieces
        if self._comes_in_pieces(request):
            body = pieces_of(request, request.stream)
        else:
            body = await request.aread()
        service, call, plan = self._call(self._homes.here(), origin, request, body)
        stream: Any
        if plan is not None and plan.stream:
            stream = CompletionStream(service, call)
            read: Any = Events(stream)
        else:
            stream = read = ResponseStream(service, call)
        raises = self._raises(stream, plan, request)
        try:
            await stream.open()
        except APIStatusError:
            return self._refusal(stream, plan)
        except PenstockError as error:
            raise raises(error) from error
        except UnsendableRequest as error:
            raise self._module.LocalProtocolError(str(error)) from error
        return self._response(stream, plan, stream, self._body(read, raises))

    async def aclose(self) -> None:
        """Close every open response and all connections, in every event loop. Idempotent.

        A task that is reading a response gets a ReadError. Other event loops close theirs as
        soon as they run.
        """
        await self._homes.aclose(self._grace)


class Sending(Transporting):
    """The blocking transport but for its base class."""

    _loop: LoopThread

    def _prepare(self) -> None:
        self._loop = LoopThread()

    def handle_request(self, request: Any) -> Any:
        """Send the request; return the response when its head is in, as httpx wants it."""
        if self._homes.closed:
            raise RuntimeError(_CLOSED)
        body: bytes | Pieces
        if self._comes_in_pieces(request):
            body = pieces_of(request, iter(request.stream), self._loop.workers.run)
        else:
            body = request.read()
        origin = origin_of(self._module, request)
        service, call, plan = self._call(self._homes.of(self._loop), origin, request, body)
        stream: Any
        if plan is not None and plan.stream:
            original: Any = CompletionStream(service, call)
            stream = Stream(self._loop, original)
            read: Any = SyncEvents(stream)
        else:
            original = ResponseStream(service, call)
            stream = read = BlockingResponseStream(self._loop, original)
        raises = self._raises(original, plan, request)
        try:
            stream.open()
        except APIStatusError:
            return self._refusal(original, plan)
        except PenstockError as error:
            raise raises(error) from error
        except UnsendableRequest as error:
            raise self._module.LocalProtocolError(str(error)) from error
        return self._response(original, plan, stream, self._body(read, raises))

    def close(self) -> None:
        """Close every open response and all connections. Idempotent, from any thread."""
        self._homes.closed = True
        self._loop.close(partial(self._homes.close_of, self._loop, self._grace))


def _translated(
    module: Any, stream: BaseStream[Any], begun: Raises | None, error: PenstockError
) -> Exception:
    """Return what an error is to the user of httpx; `begun` makes it once the body has begun."""
    exchange = exchange_of(stream)
    if begun is not None and exchange is not None and exchange.body_bytes:
        return begun(error)
    if isinstance(error, StreamClosedError) and exchange is None:
        return RuntimeError(_CLOSED)
    return httpx_error(module, error, connected=exchange is not None)
