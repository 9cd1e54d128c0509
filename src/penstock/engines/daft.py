"""Completions in a Daft data frame: `complete(df["prompt"], model=...)` is an expression."""

from __future__ import annotations

from typing import Any, TypeVar

from .at_once import answers_to
from .columns import FIELDS, answer_array, engine
from .completions import Completions

__all__ = ["complete"]

E = TypeVar("E")

BATCH = 256
"""Rows that Daft hands over at once, at least; a few such batches are under way at a time."""
BATCHES = 4


def complete(expression: E, *, model: str | None, concurrency: int = 64, **options: Any) -> E:
    """Return an expression for the completions of a column, a struct for each row.

        df = df.with_column("answer", complete(df["prompt"], model="gpt-5-mini"))
        df = df.with_column("text", df["answer"]["text"])

    The column has strings, or lists of structs with `role` and `content`. The struct has the
    members of `penstock.engines.Answer`: strings, and integers of 64 bits. A row that fails has its
    `error` there and does not raise; a null is an "invalid_row" and is not sent.

    `options` are those of `Completions`. `concurrency` holds for each process that Daft works in:
    one on a single machine, one for each node on a Ray cluster. Daft retries nothing itself. If the
    account is refused, the query fails with the server's error, unless `on_refused="row"`.

    TypeError or ValueError for options that make no sense, ImportError without Daft.
    """
    daft = engine("daft", "daft")
    completions = Completions(model, concurrency=concurrency, **options)
    kinds = {name: getattr(daft.DataType, kind)() for name, kind in FIELDS.items()}

    class Asked:
        """What Daft makes in each of its processes."""

        def __init__(self, completions: Completions) -> None:
            self._completions = completions

        @daft.method.batch(  # type: ignore[untyped-decorator]
            return_dtype=daft.DataType.struct(kinds),
            batch_size=max(BATCH, concurrency),
            max_retries=0,
        )
        async def answer(self, messages: Any) -> Any:
            answers = await answers_to(
                self._completions, messages.to_pylist(), at_once=min(len(messages), concurrency)
            )
            return engine("daft", "daft").Series.from_arrow(answer_array(answers))

    # The bound on batches only bounds what waits in memory; that on requests is in Completions.
    asked = daft.cls(Asked, max_concurrency=BATCHES, max_retries=0, name_override="complete")
    answered: E = asked(completions).answer(expression)
    return answered
