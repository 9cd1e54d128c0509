"""The rows of a batch that an engine hands over, some at a time."""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from .answers import Answer
from .completions import Completions

__all__ = ["answers_to"]


async def answers_to(
    completions: Completions, messages: Iterable[object], *, at_once: int
) -> list[Answer]:
    """Return an answer for each row, in their order.

    Has up to `at_once` rows in hand. If the account is refused, the rows in hand get their
    answers; then the error is raised.
    """
    rows = enumerate(messages)
    answers: dict[int, Answer] = {}
    failures: list[Exception] = []

    async def work() -> None:
        for index, row in rows:
            try:
                answers[index] = await completions(row)
            except Exception as error:  # noqa: BLE001 - raised below, without an ExceptionGroup
                failures.append(error)
            if failures:
                return

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(work)
    if failures:
        raise failures[0]
    return [answers[index] for index in range(len(answers))]
