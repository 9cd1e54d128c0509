"""The server of a stateful run: plays each call's plans, and knows what was taken of each."""

from __future__ import annotations

from typing import Any, NamedTuple

import anyio

from penstock.testing.memory import MemoryConnection, MemoryNetwork, MemoryStream
from penstock.testing.script import RecordedRequest, Reply

from .model import Model
from .records import Sent
from .script import SLOW, Plan, Script


class _Answering(NamedTuple):
    sent: Sent
    request: RecordedRequest
    base: int
    """What the connection had sent before."""


class Network(MemoryNetwork):
    """A memory network whose requests become the model's `Sent`; a model's name is its call."""

    def __init__(self, script: Script, model: Model) -> None:
        super().__init__(self._answer)
        self._script = script
        self._model = model
        self._connects = iter(script.connects)
        self._connecting: dict[int, float] = {}
        self._latest: dict[int, _Answering] = {}
        self.sent: list[Sent] = []
        self.most_in_flight = 0

    async def connect_tcp(self, *args: Any, **options: Any) -> MemoryStream:
        how = next(self._connects, "at once")
        self.refuse, self.stall = int(how == "refuse"), int(how == "hang")
        self.delay = SLOW if how == "slow" else 0.0
        begun = anyio.current_time()
        if how == "refuse":
            self._model.refused.append(begun)
        elif how == "hang":
            self._model.hung.append(begun)
        stream = await super().connect_tcp(*args, **options)
        self._connecting[stream.connection.number] = anyio.current_time() - begun
        return stream

    def _answer(self, request: RecordedRequest) -> Reply:
        number = _call_of(request)
        before = sum(sent.call == number for sent in self.sent)
        plans = self._script.plans[number] if number < len(self._script.plans) else ()
        plan = plans[before] if before < len(plans) else Plan()
        self.update()
        connection = self.connections[request.connection]
        sent = self._note(connection, request, plan)
        self._latest[connection.number] = _Answering(sent, request, connection.bytes_sent)
        self.most_in_flight = max(self.most_in_flight, self._unfinished())
        return plan.reply

    def _note(self, connection: MemoryConnection, request: RecordedRequest, plan: Plan) -> Sent:
        begun = request.time
        if request is connection.requests[0]:
            begun -= self._connecting[connection.number]
        sent = Sent(_call_of(request), connection.number, request.time, begun, plan)
        self.sent.append(sent)
        return sent

    def update(self) -> None:
        """Count what was taken of each answer by now."""
        for number, latest in self._latest.items():
            latest.sent.received = self.connections[number].bytes_sent - latest.base

    def _unfinished(self) -> int:
        """How many requests are in flight whose callers do not know yet that they are complete."""
        completed = [latest.request for latest in self._latest.values() if latest.sent.completed]
        return sum(
            not any(request is other for other in completed) and not self._is_answered(request)
            for request in self.in_flight
        )

    def held(self, *calls: int) -> list[str]:
        """Which requests of these calls still have a connection, and not a whole answer."""
        self.update()
        return [
            f"call {_call_of(request)} on connection {request.connection}"
            for request in self.in_flight
            if _call_of(request) in calls and not self._is_answered(request)
        ]

    def _is_answered(self, request: RecordedRequest) -> bool:
        # A server that stalls behind the last byte is at it for ever, by its own account.
        latest = self._latest.get(request.connection)
        if latest is None or latest.request is not request:
            return False
        return latest.sent.received == len(latest.sent.plan.data)

    def finish(self) -> None:
        """The run is over: note also those that the server never came to answer."""
        self.update()
        for connection in self.connections:
            answered = [sent for sent in self.sent if sent.connection == connection.number]
            for request in connection.requests[len(answered) :]:
                # Its client left before the server looked, or the server had gone silent.
                plan = Plan(fault=answered[-1].plan.ending) if answered else Plan()
                self._note(connection, request, plan)
        self.sent.sort(key=lambda sent: sent.time)


def _call_of(request: RecordedRequest) -> int:
    return int(request.json["model"])
