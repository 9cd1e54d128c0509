"""What a request of the SDK's is to the transport: its deadlines, and for chats a plan.

`request()` of a client drafts it, as only there the SDK's options are known. The hook that the SDK
calls with each request it has made (`_prepare_request`) hangs it into the request's extensions,
where the transport finds it.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, cast

import msgspec
from openai import NotGiven

from ...timeouts import Timeouts
from .._plan import PLAN, RAISES, Plan
from ._errors import Raises
from ._foreign import choices_of
from ._http import has_transport, is_default, limits_of, own_timeouts

__all__ = ["Draft", "Renewal", "draft", "is_chat", "making", "prepare"]


class Draft(msgspec.Struct, frozen=True):
    """What the transport is told of a request."""

    plan: Plan | None
    """How penstock sends it; None for what is not a chat completion."""
    untimed: bool
    """Whether the SDK's timeout is a default, and only the transport's own deadlines count."""
    renewal: Renewal | None = None
    """What makes the request anew; None for what is not a chat completion."""


class making:  # noqa: N801 - read as a statement
    """A block in which this task makes the request of a draft.

    The event loop copies the context for each connection's reads and timers. The copies live as
    long as the connection, so when the block is left nothing may lead from them to the request
    and its client any more.
    """

    __slots__ = ("_token", "draft")

    def __init__(self, draft: Draft | None) -> None:
        self.draft = draft
        """None with a transport of another kind."""

    def __enter__(self) -> None:
        self._token = _making.set(self)

    def __exit__(self, *_: object) -> None:
        self.draft = None
        _making.reset(self._token)


_making: Final[ContextVar[making | None]] = ContextVar("penstock_openai_making", default=None)


def is_chat(options: Any) -> bool:
    """Return whether a request of the SDK asks for a chat completion."""
    path: str = options.url.partition("?")[0]
    return path.endswith("/chat/completions") and options.method.lower() == "post"


def draft(client: Any, options: Any, *, stream: bool) -> Draft | None:
    """Return the draft of a request that the client is about to make, if penstock sends it."""
    http = client._client
    if not has_transport(http):
        return None
    own = own_timeouts(http)
    timeout = client.timeout if isinstance(options.timeout, NotGiven) else options.timeout
    explicit = not is_default(http, timeout)
    untimed = own is not None and not explicit
    retries = options.get_max_retries(client.max_retries)
    if not is_chat(options) or not isinstance(retries, int) or retries < 0:
        # What is no number of retries, the SDK says.
        return Draft(plan=None, untimed=untimed)
    model = _member(options, "model")
    renewal = Renewal(client, options)
    plan = Plan(
        max_retries=retries,
        timeouts=_changed(own, timeout) if own is not None and explicit else None,
        model=model if isinstance(model, str) else None,
        choices=choices_of(options),
        stream=stream,
        renew=renewal,
    )
    return Draft(plan=plan, untimed=untimed, renewal=renewal)


class Renewal:
    """Has the SDK make a request anew, for the headers that differ when it is sent again.

    A callable key may have expired, and one header counts the attempts.
    """

    def __init__(self, client: Any, options: Any) -> None:
        self._client = client
        self._options = options
        self._request: weakref.ref[Any] | None = None
        self.failures = 0
        """How often it was sent again."""

    def note(self, request: Any) -> None:
        """Keep the headers of this request of httpx as they were sent last."""
        # It has this renewal among its extensions; a strong reference back would be a cycle.
        self._request = weakref.ref(request)

    async def __call__(self, failures: int) -> Mapping[bytes, bytes]:
        self.failures = failures
        client = self._client
        options = self._options.model_copy()
        if inspect.iscoroutinefunction(client._prepare_options):
            options = await client._prepare_options(options)
        else:
            # It may block, and this is the event loop of all blocking clients.
            workers = client._client._transport._loop.workers
            options = await workers.run(client._prepare_options, options)
        headers = self._headers(options, failures)
        request = None if self._request is None else self._request()
        if request is not None:
            for name, value in headers.items():
                request.headers[name.decode("ascii")] = value.decode("latin-1")
        return headers

    def _headers(self, options: Any, failures: int) -> Mapping[bytes, bytes]:
        request = self._client._build_request(options, retries_taken=failures)
        # A token for a workload is put in after that, and stays the one of the first attempt.
        fixed = getattr(self._client, "_workload_identity_auth", None) is not None
        names = _COUNT if fixed else _COUNT | _CREDENTIALS
        return {name.lower(): value for name, value in request.headers.raw if name.lower() in names}


_COUNT: Final = frozenset({b"x-stainless-retry-count"})
_CREDENTIALS: Final = frozenset({b"authorization", b"api-key"})


def _member(options: Any, name: str) -> Any:
    for body in (options.extra_json, options.json_data):
        if isinstance(body, dict) and name in body:
            return cast("dict[str, Any]", body)[name]
    return None


def _changed(own: Timeouts, timeout: Any) -> Timeouts:
    """Return the client's deadlines, changed by a timeout that the SDK was given for one call."""
    connect, read, *_ = limits_of(timeout)
    return msgspec.structs.replace(own, connect=connect, read=read)


def prepare(request: Any) -> None:
    """Tell the transport how to send a request of httpx that the SDK has made."""
    made = _making.get()
    if made is None or made.draft is None:
        return
    drafted = made.draft
    extensions = request.extensions
    raises = Raises(request)
    extensions[RAISES] = raises
    if drafted.untimed:
        extensions["timeout"] = {}
    if drafted.renewal is not None:
        drafted.renewal.note(request)
    if drafted.plan is not None:
        extensions[PLAN] = msgspec.structs.replace(drafted.plan, raises=raises)
