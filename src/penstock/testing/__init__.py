"""A scripted server, virtual time and cancellation at every point: a kit for tests.

    from penstock.testing import MemoryNetwork, sse_reply, tokens

    network = MemoryNetwork(sse_reply(tokens("Hel", "lo")))
    async with penstock.AsyncClient("http://api.test/v1", network=network) as client: ...

Each name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clock import Backend, DeadlockError, VirtualLoop, virtual, virtual_trio_clock
    from .cuts import cut_at, every_byte, split_at, two_pieces
    from .memory import MemoryConnection, MemoryNetwork, MemoryStream
    from .replies import (
        completion,
        error_reply,
        json_reply,
        sse_event,
        sse_reply,
        status_reply,
        tokens,
    )
    from .script import (
        End,
        Fault,
        Pause,
        RecordedRequest,
        Repeat,
        Reply,
        Reset,
        Script,
        Send,
        Stall,
        StartTLS,
        Step,
        reply,
    )
    from .server import Server, ServerConnection, closed_port, serve
    from .sweep import BackendName, Mode, cancel_sweep, open_fds
    from .threaded import becomes_true, serve_in_thread

__all__ = [
    "Backend",
    "BackendName",
    "DeadlockError",
    "End",
    "Fault",
    "MemoryConnection",
    "MemoryNetwork",
    "MemoryStream",
    "Mode",
    "Pause",
    "RecordedRequest",
    "Repeat",
    "Reply",
    "Reset",
    "Script",
    "Send",
    "Server",
    "ServerConnection",
    "Stall",
    "StartTLS",
    "Step",
    "VirtualLoop",
    "becomes_true",
    "cancel_sweep",
    "closed_port",
    "completion",
    "cut_at",
    "error_reply",
    "every_byte",
    "json_reply",
    "open_fds",
    "reply",
    "serve",
    "serve_in_thread",
    "split_at",
    "sse_event",
    "sse_reply",
    "status_reply",
    "tokens",
    "two_pieces",
    "virtual",
    "virtual_trio_clock",
]

_HOME = {
    "clock": ("Backend", "DeadlockError", "VirtualLoop", "virtual", "virtual_trio_clock"),
    "cuts": ("cut_at", "every_byte", "split_at", "two_pieces"),
    "memory": ("MemoryConnection", "MemoryNetwork", "MemoryStream"),
    "replies": (
        "completion",
        "error_reply",
        "json_reply",
        "sse_event",
        "sse_reply",
        "status_reply",
        "tokens",
    ),
    "script": (
        "End",
        "Fault",
        "Pause",
        "RecordedRequest",
        "Repeat",
        "Reply",
        "Reset",
        "Script",
        "Send",
        "Stall",
        "StartTLS",
        "Step",
        "reply",
    ),
    "server": ("Server", "ServerConnection", "closed_port", "serve"),
    "sweep": ("BackendName", "Mode", "cancel_sweep", "open_fds"),
    "threaded": ("becomes_true", "serve_in_thread"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
