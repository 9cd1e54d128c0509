"""`penstock models`: what a server offers, and whether it answers."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING

from .output import complain, write
from .run import run_async
from .server import client_for, server_of

if TYPE_CHECKING:
    import argparse

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Write the names of the models and return the exit status."""
    with server_of(arguments, parallel=1) as base_url:
        return run_async(partial(_list, arguments, base_url), arguments.backend)


async def _list(arguments: argparse.Namespace, base_url: str | None) -> int:
    from .. import Timeouts

    timeouts = Timeouts(total=arguments.timeout)
    async with client_for(arguments, base_url, timeouts=timeouts) as client:
        began = time.monotonic()
        models = await client.models.list()
        seconds = time.monotonic() - began
        for model in models:
            write(f"{json.dumps(model.to_dict()) if arguments.json else model.id}\n")
        count = "1 model" if len(models) == 1 else f"{len(models)} models"
        complain(f"{count} at {client.base_url} after {seconds:.2f} s")
    return 0
