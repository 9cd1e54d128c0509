"""Completions in a Ray dataset: `complete(ds, model=...)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from .at_once import answers_to
from .columns import answer_array, engine
from .completions import Completions
from .worker import checked_count

__all__ = ["complete"]

D = TypeVar("D")

CPUS = 0.1
"""Of a worker, which mostly waits: with a whole one, two workers on two cores would leave none for
the tasks that read their rows, and all would wait for ever."""

CALLS = 4
"""Calls of one worker at a time: while one ends, the next ones keep its requests in flight."""


def complete(
    ds: D,
    messages: str = "messages",
    into: str = "answer",
    *,
    model: str | None,
    workers: int = 1,
    concurrency: int = 64,
    batch_size: int = 256,
    per_second: float | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    **options: Any,
) -> D:
    """Return the dataset with a further column of completions, a struct for each row.

        ds = complete(ray.data.read_parquet("in/"), "prompt", model="gpt-5-mini", workers=4)

    - `messages`: the column of strings, or of lists of structs with `role` and `content`.
    - `into`: the new column. Its struct has the members of `penstock.engines.Answer`: strings, and
      integers of 64 bits. A row that fails has its `error` there and does not raise; a null is an
      "invalid_row" and is not sent.
    - `workers`: processes that ask, each an actor.
    - `concurrency`, `per_second`: limits of all workers together. Each gets its share, and adapts
      by itself.
    - `batch_size`: rows that a worker gets at once.
    - `ray_remote_args`: further options of the actors, for instance {"num_cpus": 1}; 0.1 is what
      one takes by default, as it mostly waits.
    - `options`: those of `Completions`.

    Ray retries nothing itself but a batch whose worker has crashed: its rows are asked again. If
    the account is refused, the job ends with the server's error, unless `on_refused="row"`.

    TypeError or ValueError for arguments that make no sense, ImportError without Ray.
    """
    checked_count("workers", workers)
    checked_count("batch_size", batch_size)
    columns: dict[str, object] = {"messages": messages, "into": into}
    for name, column in columns.items():
        if not isinstance(column, str) or not column:
            raise ValueError(f"{name} must be the name of a column")
    Completions(model, concurrency=concurrency, per_second=per_second, **options)
    share = concurrency // workers
    if not share:
        raise ValueError(
            f"concurrency is {concurrency} for {workers} workers: give each one request at least"
        )
    completions = Completions(
        model,
        concurrency=share,
        per_second=None if per_second is None else per_second / workers,
        **options,
    )
    data = engine("ray.data", "ray")
    dataset: Any = ds
    if workers > 1:
        # However Ray has read them, all workers have their share of the rows.
        dataset = dataset.repartition(target_num_rows_per_block=batch_size)
    asked: D = dataset.map_batches(
        _Asked,
        fn_constructor_args=(completions, messages, into, share),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=workers, max_concurrent_calls_per_actor=CALLS),
        udf_modifying_row_count=False,
        **{"num_cpus": CPUS, **(ray_remote_args or {})},
    )
    return asked


class _Asked:
    """What Ray makes in each worker."""

    def __init__(self, completions: Completions, messages: str, into: str, share: int) -> None:
        self._completions = completions
        self._messages = messages
        self._into = into
        self._share = share

    async def __call__(self, table: Any) -> Any:
        rows = table.column(self._messages).to_pylist()
        answers = await answers_to(self._completions, rows, at_once=min(len(rows), self._share))
        column = answer_array(answers)
        if self._into in table.column_names:
            index = table.column_names.index(self._into)
            return table.set_column(index, self._into, column)
        return table.append_column(self._into, column)
