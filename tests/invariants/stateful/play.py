"""Plays a stateful run in virtual time, and lets the model judge it."""

from __future__ import annotations

import anyio

import penstock
from penstock import AsyncClient, Limiter, Timeouts, observing
from penstock._policy.retry import MAX_RETRY_WAIT, backoff
from tests.support.chat import URL

from ..recorded import text_of
from .caller import request_of
from .model import EPSILON, Model
from .records import Call, Failure
from .script import Script, Use
from .server import Network
from .tasks import Tasks

SHORTEST_BACK_OFF = backoff(1, 1.0)


class Play:
    """One run of a script: its client, its calls, and an observer of them."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.model = Model(script.timeouts)
        self.network = Network(script, self.model)
        self.violations: list[str] = []
        self._uses: list[tuple[Use, list[Call]]] = []
        self._calls: list[Call] = []
        for use in script.uses:
            # A failed attempt of a race starts the next one, instead of trying again.
            retries = 0 if use.kind == "race" else script.max_retries
            calls = [Call(len(self._calls) + i, retries) for i in range(use.calls)]
            self._calls += calls
            self._uses.append((use, calls))
        self._observed: dict[int, Call] = {}
        self._limiter = Limiter(script.limit)
        self._client = AsyncClient(
            URL,
            network=self.network,
            limiter=self._limiter,
            max_retries=script.max_retries,
            timeouts=script.timeouts,
            observer=self,
        )

    async def run(self) -> None:
        """Play it; what was wrong is in `violations`."""
        async with self._client:
            async with anyio.create_task_group() as group:
                tasks = Tasks(self._client, self._limiter, group, self._expect)
                for use, calls in self._uses:
                    group.start_soon(self._use, tasks, use, calls)
                if self.script.client_closed_at is not None:
                    group.start_soon(self._close_client, self.script.client_closed_at)
            self._nothing_is_held()
            if not self.model.client_closed:
                await self._goes_on()
        self._expect(self.network.open_connections == 0, "the client left connections open")
        self._judge()

    async def _use(self, tasks: Tasks, use: Use, calls: list[Call]) -> None:
        await tasks.play(use, calls)
        held = self.network.held(*(call.number for call in calls))
        self._expect(not held, f"left open behind {use}: {held}")

    async def _close_client(self, when: float) -> None:
        await anyio.sleep(when)
        self.model.client_closed = True
        await self._client.aclose()
        self._expect(self.network.open_connections == 0, "a closed client has open connections")

    def _nothing_is_held(self) -> None:
        statistics = self._limiter.statistics()
        self._expect(statistics.in_flight == statistics.waiting == 0, f"held: {statistics}")
        self._expect(not self._client._endpoint.service.live, "calls are still live")
        idle = len(self._client._connections._idle)
        self._expect(self.network.open_connections == idle, "connections are left open")

    async def _goes_on(self) -> None:
        """Whatever has happened, the next request works."""
        request = request_of(Call(len(self._calls), 0))
        answer: penstock.ChatCompletion | None = None
        for _ in range(1 + len(self.network.connections)):
            try:
                answer = await self._client.complete(
                    request, timeouts=Timeouts(connect=1.0, read=1.0), max_retries=9
                )
                break
            except penstock.ReadTimeout:
                # Its server had fallen silent behind a whole answer: that connection is gone.
                continue
        self._expect(text_of(answer).choices == {0: "<0>"}, f"the next answer was {answer}")

    def _judge(self) -> None:
        self.network.finish()
        most = self.network.most_in_flight
        self._expect(most <= self.script.limit, f"{most} in flight")
        for call in self._calls:
            call.sent = [sent for sent in self.network.sent if sent.call == call.number]
            for wrong in self.model.judge(call):
                self._expect(False, f"call {call.number}: {wrong}")
            for failure in call.failures:
                self._expect_pause_after(failure)

    def _expect_pause_after(self, failure: Failure) -> None:
        error = failure.error
        if isinstance(error, penstock.APIStatusError) and error.status_code in (429, 503):
            wait = error.retry_after
            if wait is None:
                wait = SHORTEST_BACK_OFF if error.status_code == 429 else 0.0
            until = failure.time + min(wait, MAX_RETRY_WAIT) - EPSILON
            early = [sent for sent in self.network.sent if failure.time < sent.begun < until]
            self._expect(not early, f"sent in the pause until {until}: {early}")

    def _expect(self, truth: bool, what: str) -> None:
        if not truth:
            self.violations.append(what)

    # --- the observer ---

    def request_started(self, event: observing.RequestStarted) -> None:
        number = int(event.model or 0)
        if number < len(self._calls):
            self._observed[event.id] = self._calls[number]
            self._calls[number].started = event.time

    def attempt_failed(self, event: observing.AttemptFailed) -> None:
        if event.id in self._observed:
            failure = Failure(event.error, event.retry_in, event.time)
            self._observed[event.id].failures.append(failure)

    def finished(self, event: observing.Finished) -> None:
        if event.id in self._observed:
            self._observed[event.id].finished.append(event.outcome)
