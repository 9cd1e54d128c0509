"""`Completions` in Dask's workers: threads and processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dask
import dask.bag
import pytest

from penstock.engines import Completions
from penstock.testing.server import serve_in_thread

from .support import checked, echo


def completed(ask: Completions, prompts: Any) -> list[Any]:
    async def rows() -> list[Any]:
        return await asyncio.gather(*[ask(prompt) for prompt in prompts])

    return asyncio.run(rows())


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_partitions_of_a_bag(scheduler: str) -> None:
    with serve_in_thread(echo) as server:
        ask = Completions("m", base_url=server.base_url, concurrency=4)
        prompts = [str(number) for number in range(60)]
        bag = dask.bag.from_sequence(prompts, npartitions=6)
        with dask.config.set(scheduler=scheduler, num_workers=2):
            answers = bag.map_partitions(lambda rows: completed(ask, rows)).compute()
    assert [checked(answer)["text"] for answer in answers] == prompts
    assert server.open_connections == 0


def test_the_example_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "pages" / "how-to" / "engines.md"
    blocks = page.read_text().split("```py\n")[1:]
    (example,) = [block.split("```")[0] for block in blocks if "import dask" in block]
    with serve_in_thread(echo) as server, dask.config.set(scheduler="threads"):
        names: dict[str, Any] = {"ask": Completions("m", base_url=server.base_url)}
        exec(compile(example, str(page), "exec"), names)
    assert [checked(answer)["text"] for answer in names["answers"]] == [
        "Where does the Rhine rise?",
        "And the Elbe?",
    ]
