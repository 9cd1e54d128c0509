"""`penstock serve`: the embedded model on a port, to code against without a key."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from .._local.process import MODEL_NAME
from .local import local_server
from .output import complain, write

if TYPE_CHECKING:
    import argparse

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C, SIGTERM or the end of the server; return the exit status."""
    complain("loading the model ...")
    with local_server(parallel=arguments.parallel, port=arguments.port) as server:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            write(f"{MODEL_NAME} at {server.base_url} (Ctrl-C stops it)\n")
            status = server.wait()
        except KeyboardInterrupt:
            return 0
    complain(f"penstock: the server ended by itself, with status {status}")
    return 1
