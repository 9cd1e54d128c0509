"""What is allowed in a stateful run: judges each call by what went over the wire, and when.

It shares no code with the library. It knows the plans of the server, how many bytes of each
answer the client took, and what the caller of each call was told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import penstock
from penstock import Timeouts

from ..recorded import text_of
from .records import Call, Failure, Sent
from .script import Plan

_NOT_BY_THE_PLAN = (
    penstock.TotalTimeout,
    penstock.ConnectTimeout,
    penstock.APIConnectionError,
    penstock.StreamClosedError,
)
EPSILON = 1e-6
RETRY_CAP = 60.0


@dataclass
class Model:
    """The rules, given what all calls of a run have in common."""

    timeouts: Timeouts
    client_closed: bool = False
    refused: list[float] = field(default_factory=list)
    """When connects were refused."""
    hung: list[float] = field(default_factory=list)

    def judge(self, call: Call) -> Iterator[str]:
        """What is wrong about one call when the run is over."""
        yield from self._requests(call)
        yield from self._retries(call)
        yield from self._text(call)
        if call.error is not None and not self._allowed(call, call.error):
            yield f"{call.error!r} is not what the wire says: {_last(call)}"
        if call.undisturbed:
            yield from self._prediction(call)
        if not math.isnan(call.started) and len(call.finished) != 1:
            yield f"the observer was told of {len(call.finished)} ends: {call.finished}"

    def _requests(self, call: Call) -> Iterator[str]:
        for before in call.sent[:-1]:
            if before.body_begun:
                yield f"sent again after {before.received} bytes of {before.plan}"
        attempts = len(call.failures) + 1
        if len(call.sent) > attempts + call.withdrawn:
            yield f"{len(call.sent)} requests for {attempts} attempts"
        refused = [sent for sent in call.sent[:-1] if sent.refused]
        if len(refused) > len(call.failures):
            yield f"{len(refused)} refusals, {len(call.failures)} failures"
        if len(call.failures) > 1 + call.max_retries + (_free(call) is not None):
            yield f"{len(call.failures)} attempts failed, {call.max_retries} retries are allowed"

    def _retries(self, call: Call) -> Iterator[str]:
        counted = [failure for failure in call.failures if failure is not _free(call)]
        for number, failure in enumerate(counted, start=1):
            wait = _wait(failure.error)
            transient = _is_transient(failure.error) and (wait or 0) <= RETRY_CAP
            expected = transient and number <= call.max_retries
            if expected != (failure.retry_in is not None):
                yield f"failure {number} is to be retried: {expected}, but {failure}"
            if failure.retry_in is None:
                continue
            longest = min(0.5 * 2 ** (number - 1), 8.0)
            least, most = (wait, wait) if wait is not None else (0.75 * longest, longest)
            if not least <= failure.retry_in <= most:
                yield f"a wait of {failure.retry_in} after failure {number}: {failure.error!r}"
            due = failure.time + failure.retry_in - EPSILON
            early = [sent.begun for sent in call.sent if failure.time < sent.begun < due]
            if early:
                yield f"sent again at {early}, which is before {due}"

    def _text(self, call: Call) -> Iterator[str]:
        said = call.sent[-1].text if call.sent else ""
        if not said.startswith(call.text):
            yield f"handed out {call.text!r} of {said!r}"
        if call.completed and not (call.sent and call.sent[-1].completed):
            yield f"completed, but {_last(call)}"
        if call.completed and call.text != said:
            yield f"completed with {call.text!r} of {said!r}"
        closed = isinstance(call.error, penstock.StreamClosedError)
        if isinstance(call.error, penstock.PenstockError) and not closed:
            partial = text_of(call.error.partial).choices.get(0, "")
            begun = bool(call.sent) and call.sent[-1].body_begun
            if partial != (said if begun else ""):
                yield f"{call.error!r} carries {partial!r} of {said!r}"
            if begun and call.error.partial is None:
                yield f"{call.error!r} carries nothing"

    # --- errors ---

    def _allowed(self, call: Call, error: Exception) -> bool:
        kind = type(error)
        now = call.ended
        if kind is penstock.StreamClosedError:
            return call.closed or self.client_closed
        last = call.sent[-1] if call.sent else None
        final = None if last is None else last.worth
        if kind is penstock.TotalTimeout:
            total = self.timeouts.total
            if final is not None and final.error is None:
                return False  # it was all there
            return total is not None and now >= call.started + total - EPSILON
        since = call.started if last is None else last.time
        if kind is penstock.ConnectTimeout:
            return any(since <= when <= now for when in self.hung)
        if kind is penstock.APIConnectionError and any(
            since <= when <= now for when in self.refused
        ):
            return True
        if last is None or final is None or final.error is None:
            return False
        if kind is final.error is not penstock.ReadTimeout:
            return True
        return kind in self._timeouts_after(last)

    def _timeouts_after(self, sent: Sent) -> set[type[penstock.PenstockError]]:
        """Which deadlines may have passed while the next byte was waited for."""
        limits = self.timeouts
        before = (time for time, size in sent.plan.arrivals if size <= sent.received)
        last = max(before, default=0.0)
        after = (time for time, size in sent.plan.arrivals if size > sent.received)
        ahead = min(after, default=sent.plan.ended_at)
        found: set[type[penstock.PenstockError]] = set()
        if limits.read is not None and ahead - last >= limits.read:
            found.add(penstock.ReadTimeout)
        token = _last_token(sent)
        if token is None and limits.first_token is not None and ahead >= limits.first_token:
            found.add(penstock.FirstTokenTimeout)
        if token is not None and limits.idle is not None and ahead - token >= limits.idle:
            found.add(penstock.IdleTimeout)
        return found

    # --- an undisturbed call has one outcome ---

    def _prediction(self, call: Call) -> Iterator[str]:
        if not call.completed and call.error is None:
            yield "read to its end without coming to one"
            return
        total = self.timeouts.total
        # A completed stream's connection is given a moment to end as well.
        if total is not None and call.ended > call.started + total + 0.051:
            yield f"ended at {call.ended}, beyond the total of {total}"
        if not call.sent or type(call.error) in _NOT_BY_THE_PLAN:
            return
        predicted = self.predict(call.sent[-1].plan)
        if predicted is not (None if call.error is None else type(call.error)):
            yield f"ended with {call.error!r}, not {predicted}: {_last(call)}"

    def predict(self, plan: Plan) -> type[penstock.PenstockError] | None:
        """What becomes of one request, for someone who does nothing but read."""
        limits = self.timeouts
        sent = Sent(0, 0, 0.0, 0.0, plan)
        last = 0.0
        steps = [*plan.arrivals, (plan.ended_at, plan.size)]
        for number, (time, size) in enumerate(steps):
            token = _last_token(sent)
            token_limit = limits.first_token if token is None else limits.idle
            by_token = math.inf if token_limit is None else (token or 0.0) + token_limit
            by_read = last + (math.inf if limits.read is None else limits.read)
            if min(by_token, by_read) < time:
                if by_read < by_token:
                    return penstock.ReadTimeout
                return penstock.FirstTokenTimeout if token is None else penstock.IdleTimeout
            sent.received, last = size, time
            error = sent.worth.error
            if error is None and number + 1 < len(steps) and not sent.said_all:
                # Only silence makes it whole, and more comes before it has lasted.
                trailing = math.inf if limits.trailing is None else limits.trailing
                if steps[number + 1][0] - time < trailing:
                    continue
            if error is not penstock.ReadTimeout:
                return error
        raise AssertionError("nobody waits for ever")


def _last_token(sent: Sent) -> float | None:
    """When the last of the tokens came that the client has taken, from the request on."""
    found: float | None = None
    said = ""
    for time, size in sent.plan.arrivals:
        if size > sent.received:
            break
        text = Sent(0, 0, 0.0, 0.0, sent.plan, size).text
        if text != said:
            said, found = text, time
    return found


def _is_transient(error: Exception) -> bool:
    if isinstance(error, penstock.APIStatusError):
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    return type(error) in (penstock.APIConnectionError, penstock.ConnectTimeout)


def _wait(error: Exception) -> float | None:
    return error.retry_after if isinstance(error, penstock.APIStatusError) else None


def _last(call: Call) -> str:
    if not call.sent:
        return "nothing was sent"
    last = call.sent[-1]
    return f"{last.received} bytes of {last.plan} came"


def _free(call: Call) -> Failure | None:
    """The failure that costs no retry: an idle connection was dead, which one attempt may meet."""
    for failure in call.failures:
        if failure.retry_in == 0 and isinstance(failure.error, penstock.APIConnectionError):
            return failure
    return None
