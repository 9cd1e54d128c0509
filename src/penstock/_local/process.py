"""The process of the embedded server: `python -m penstock._local.process MODEL PARALLEL [PORT]`.

Writes one line of JSON to standard output, `{"address": ...}` or `{"error": ...}`,
and serves until its standard input is closed.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

__all__ = ["serve"]

CONTEXT_TOKENS = 2048  # of each slot
MAX_SLOTS = 16  # further requests wait in the server for a slot
MAX_THREADS = 8
MODEL_NAME = "smollm2-135m-instruct"


def serve(model: str, parallel: int, *, port: int = 0, threads: int | None = None) -> None:
    """Serve the model on the loopback until standard input ends; never returns.

    On a free port unless one is given, with a thread for each core but one (8 at most) unless
    told: llama.cpp's threads wait for each other by spinning, so one that must share its core
    with the client, or with whatever runs there, holds up all.
    """
    threads = threads or max(1, min((os.cpu_count() or 2) - 1, MAX_THREADS))
    report = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # llama.cpp writes to both as it likes
    os.dup2(nowhere, 2)
    try:
        server = _start(model, parallel, port, threads)
    except Exception as error:  # noqa: BLE001 - the parent process reports it
        print(json.dumps({"error": str(error) or type(error).__name__}), file=report, flush=True)
        os._exit(1)
    print(json.dumps({"address": server.listening_address}), file=report, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # no waiting for the answers under way


def _start(model: str, parallel: int, port: int, threads: int) -> Any:
    xllamacpp: Any = import_module("xllamacpp")  # it has no types
    slots = min(parallel, MAX_SLOTS)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.model_alias = [MODEL_NAME]
    parameters.n_parallel = slots
    parameters.n_ctx = CONTEXT_TOKENS * slots
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    parameters.n_threads_http = parallel + 4  # it keeps a thread for each open connection
    parameters.cache_ram_mib = 0
    parameters.warmup = False
    parameters.verbosity = 0
    parameters.ui = False
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    return xllamacpp.Server(parameters)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), port=int(sys.argv[3]) if sys.argv[3:] else 0)
