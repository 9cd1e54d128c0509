"""Completions inside of data engines: Daft, Ray, Dask, Prefect, or a task group of your own.

    ask = Completions("gpt-5-mini", concurrency=64)
    answer = await ask("Where is the Rhine's source?")

Each name below is imported when it is first used. Nothing of this is loaded by `import penstock`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import daft as daft
    from . import ray as ray
    from .answers import Answer as Answer
    from .completions import Completions as Completions
else:
    from .._exports import exports

    __getattr__, __dir__, __all__ = exports(
        __name__,
        {
            ".": "daft ray",
            "answers": "Answer",
            "completions": "Completions",
        },
    )
