"""What is known of a run when it is over: the requests on the wire, and what callers were told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import penstock

from ..recorded import Worth, text_of, worth
from .script import Plan

STATUS_ERRORS: dict[int, type[penstock.APIStatusError]] = {
    400: penstock.BadRequestError,
    401: penstock.AuthenticationError,
    404: penstock.NotFoundError,
    408: penstock.APIStatusError,
    429: penstock.RateLimitError,
    500: penstock.InternalServerError,
    503: penstock.EndpointNotReadyError,
}


@dataclass
class Sent:
    """One request, as the server saw it."""

    call: int
    connection: int
    time: float
    begun: float
    """When the client began with this attempt: before it connected."""
    plan: Plan
    received: int = 0
    """Bytes of the answer that the client has taken."""

    @property
    def worth(self) -> Worth:
        """What a caller gets of the bytes so far; ReadTimeout stands for "nothing final yet"."""
        plan, n = self.plan, self.received
        ending = plan.ending if n == plan.size else "stall"
        if plan.status != 200:
            if self.refused:
                return Worth(text_of(None), STATUS_ERRORS[plan.status], begun=True)
            silent = ending == "stall"
            error = penstock.ReadTimeout if silent else penstock.APIConnectionError
            return Worth(text_of(None), error, begun=False)
        return worth(plan.data, n, ending, penstock.ReadTimeout)

    @property
    def said_all(self) -> bool:
        """Whether the answer is whole by what has come, whatever follows."""
        return worth(self.plan.data, self.received, "reset", penstock.ReadTimeout).error is None

    @property
    def text(self) -> str:
        return self.worth.text.choices.get(0, "")

    @property
    def body_begun(self) -> bool:
        """Whether a byte of a success answer's body has come."""
        return self.plan.status == 200 and self.received > self.plan.head

    @property
    def refused(self) -> bool:
        """Whether the client knows that the answer is a refusal."""
        return self.plan.status != 200 and self.received >= self.plan.head

    @property
    def completed(self) -> bool:
        return self.plan.status == 200 and self.worth.error is None


@dataclass
class Failure:
    """An attempt that failed before the first byte, as the observer was told."""

    error: Exception
    retry_in: float | None
    time: float


@dataclass
class Call:
    """What its caller did, and was told."""

    number: int
    max_retries: int
    text: str = ""
    """All that was handed out, one piece after the other."""
    completed: bool = False
    error: Exception | None = None
    ended: float = math.nan
    """When it was completed or failed."""
    undisturbed: bool = False
    """Read to its end at once, with nobody cancelling or closing anything."""
    closed: bool = False
    """Its caller, or another task, has closed it."""
    withdrawn: int = 0
    """Openings that were cancelled."""
    started: float = math.nan
    finished: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
