"""Completions in a Daft data frame: `complete(df["prompt"], model=...)` is an expression."""

from __future__ import annotations

from typing import Any, TypeVar

from .at_once import answers_to
from .columns import FIELDS, answer_array, engine
from .completions import Completions
from .worker import checked_count

__all__ = ["complete"]

E = TypeVar("E")

BATCHES = 4
"""Batches of rows that Daft hands over at a time."""


def complete(
    expression: E,
    *,
    model: str | None,
    concurrency: int = 64,
    batch_size: int | None = None,
    **options: Any,
) -> E:
    """Return an expression for the completions of a column, a struct for each row.

        df = df.with_column("answer", complete(df["prompt"], model="gpt-5-mini"))
        df = df.with_column("text", df["answer"]["text"])

    The column has strings, or lists of structs with `role` and `content`. The struct has the
    members of `penstock.engines.Answer`: strings, and integers of 64 bits. A row that fails has its
    `error` there and does not raise; a null is an "invalid_row" and is not sent.

    - `concurrency`: requests in flight in each process that Daft works in: one on a single machine,
      one for each node of a Ray cluster.
    - `batch_size`: rows that are handed over at once; a few such batches are in hand at a time.
      None is what Daft has together, up to 131 072 rows, in their order. Batches come back as they
      are done, as those of any async function in Daft.
    - `options`: those of `Completions`.

    Daft retries nothing itself. If the account is refused, the query fails with the server's error,
    unless `on_refused="row"`.

    TypeError or ValueError for options that make no sense, ImportError without Daft.
    """
    if batch_size is not None:
        checked_count("batch_size", batch_size)
    daft = engine("daft", "daft")
    completions = Completions(model, concurrency=concurrency, **options)
    kinds = {name: getattr(daft.DataType, kind)() for name, kind in FIELDS.items()}

    class Asked:
        """What Daft makes in each of its processes."""

        def __init__(self, completions: Completions) -> None:
            self._completions = completions

        @daft.method.batch(  # type: ignore[untyped-decorator]
            return_dtype=daft.DataType.struct(kinds),
            batch_size=batch_size,
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
