"""`Completions`: one row's completion, wherever rows are worked on."""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

from .. import providers
from .._loops import event_loop
from ..batch.asking import OnCut
from ..batch.outcomes import Failure, Outcome
from ..batch.rows import InvalidRow
from ..batch.verdicts import verdict_of
from ..errors import PenstockError
from ..providers import Provider
from ..timeouts import Timeouts
from .answers import Answer, answer_of, failed
from .loop_end import close_at_end, has_ended
from .rows import Rows
from .worker import Settings, Worker

__all__ = ["Completions"]


class Completions:
    """An async callable: `answer = await completions(messages)`. Never raises for a row.

    `messages` is a string, the user's message, or a list of messages with `role` and `content`.
    The answer is a dict with the members of `penstock.engines.Answer`, always all of them, each of
    one type, for an answer as for a failure. So it fits a column of a data engine.

    It can be pickled: the settings are, no connection and no key. A client is made where rows are
    asked, one for each event loop, asyncio's or trio's, in any thread or process. All copies of one
    object in a process are the same object, so its limits hold for all of them. Connections are
    closed when their event loop ends, when the object is dropped, and at exit.

    - `model`: of every row; None if `params` have one.
    - `base_url`, `provider`: the server, as `AsyncClient` has them. A provider's key is not sent
      to a `base_url`.
    - `api_key_env`: name of the environment variable with the key. It is read in the worker.
    - `concurrency`: requests in flight at most, of one event loop.
    - `per_second`: requests that start in a second at most, of one event loop.
    - `adaptive`: whether a 429 or an overload halves the requests in flight for a time.
    - `max_retries`: how often a row is asked again after a failure that may pass. 429, 503 and 529
      are asked again up to 20 times. While the server is away all rows wait, and only retries
      before or after that time count.
    - `patience`: seconds without any answer after which rows fail. From then on each fails with its
      first request, until one is answered.
    - `timeouts`: of each request.
    - `on_cut`: "retry" asks a row again whose answer was cut off, "fail" does not, for those who
      pay for every token.
    - `on_refused`: what happens when the server refuses the account (401, 402, a used-up quota).
      "raise" raises the server's error once, and nothing more is sent. All other rows get it as
      their failure. With "row" it is the failure of the row that met it, and rows go on being
      asked.
    - `stream`: whether answers are streamed inside, so that deadlines count tokens.
    - `raw`: whether `body` has the JSON text of the answer.
    - `params`: members of every request's body, for instance {"temperature": 0}. `stream` and
      `stream_options` are dropped.

    TypeError or ValueError for arguments that make no sense, before any I/O.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        provider: Provider | str = providers.OPENAI,
        api_key_env: str | None = None,
        concurrency: int = 64,
        per_second: float | None = None,
        adaptive: bool = True,
        max_retries: int = 5,
        patience: float = 300.0,
        timeouts: Timeouts | None = None,
        on_cut: OnCut = "retry",
        on_refused: Literal["raise", "row"] = "raise",
        stream: bool = False,
        raw: bool = False,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self._rows = Rows(model, params)
        self._raw = bool(raw)
        self._settings = Settings(
            base_url,
            provider,
            api_key_env,
            concurrency,
            per_second,
            bool(adaptive),
            max_retries,
            patience,
            Timeouts() if timeouts is None else timeouts,
            on_cut,
            on_refused,
            bool(stream),
        )
        self._arguments = (model, None if params is None else dict(params), self._raw)
        self._refusal: PenstockError | None = None
        """The server's error about the account; nothing is sent any more."""
        _register(self, uuid.uuid4().hex)
        self._begin()

    def _begin(self) -> None:
        """Know no event loop of this process yet."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._workers: dict[Any, Worker] = {}
        weakref.finalize(self, _close_all, self._workers).atexit = False

    async def __call__(self, messages: object, params: Mapping[str, Any] | None = None) -> Answer:
        """Return the answer to a string or a list of messages, or why there is none.

        `params` are members of this request's body, over those of the object. Nothing is sent for
        null, empty or malformed messages: the `error` is "invalid_row". Raises an APIStatusError
        once if the account is refused, see `on_refused`, and ValueError if there is no key.
        Cancelled, the connection is closed at once, and the server stops generating.
        """
        try:
            row = self._rows.row(messages, params)
        except InvalidRow as error:
            return failed(Failure("invalid_row", str(error)))
        if self._refusal is not None:
            return failed(verdict_of(self._refusal).failure)
        worker = self._workers.get(event_loop()) if self._pid == os.getpid() else None
        if worker is None:
            worker = await self._worker()
        outcome = await worker.ask(row)
        if isinstance(outcome, Outcome):
            return answer_of(outcome, raw=self._raw)
        if isinstance(outcome, Failure):
            return failed(outcome)
        if self._is_refused():
            return failed(verdict_of(outcome).failure)
        self._refusal = outcome
        raise outcome

    def _is_refused(self) -> bool:
        """Look again whether the account was refused."""
        return self._refusal is not None

    async def _worker(self) -> Worker:
        """Return the running event loop's worker. Never waits."""
        if self._pid != os.getpid():
            self._leave_to_parent()
        loop = event_loop()
        with self._lock:
            # A copy: loops of other threads end whenever they do.
            for other, ended in list(self._workers.items()):
                if has_ended(other):
                    ended.close()
            worker = self._workers[loop] = Worker(self._settings, self._workers, loop)
        await close_at_end(loop, worker)
        return worker

    def _leave_to_parent(self) -> None:
        """In a forked process: begin anew, and leave the parent's connections alone."""
        _close_all(self._workers)
        self._begin()

    def close(self) -> None:
        """Close all connections at once, of every event loop. Idempotent.

        Nobody has to call it: see the class. The next row opens new connections.
        """
        _close_all(self._workers)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _restored, (_identities[self], self._settings, *self._arguments)

    def __repr__(self) -> str:
        model, _, _ = self._arguments
        return f"Completions({model!r}, concurrency={self._settings.concurrency})"


def _close_all(workers: dict[Any, Worker]) -> None:
    for worker in list(workers.values()):
        worker.close()


KEPT = 16
"""Restored objects that are kept, the latest ones: an engine restores one for each of its tasks."""

_here: weakref.WeakValueDictionary[str, Completions] = weakref.WeakValueDictionary()
"""The objects of this process, by identity."""
_identities: weakref.WeakKeyDictionary[Completions, str] = weakref.WeakKeyDictionary()
_kept: OrderedDict[str, Completions] = OrderedDict()
_restoring = threading.Lock()


def _register(completions: Completions, identity: str) -> None:
    _here[identity] = completions
    _identities[completions] = identity


def _restored(
    identity: str,
    settings: Settings,
    model: str | None,
    params: Mapping[str, Any] | None,
    raw: bool,
) -> Completions:
    """Return the object of this process with this identity."""
    with _restoring:
        found = _here.get(identity)
        if found is None:
            options = {name: getattr(settings, name) for name in settings.__struct_fields__}
            found = Completions(model, params=params, raw=raw, **options)
            _register(found, identity)
        _kept[identity] = found
        _kept.move_to_end(identity)
        if len(_kept) > KEPT:
            _kept.popitem(last=False)
        return found


def _in_child() -> None:
    global _restoring
    _restoring = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
