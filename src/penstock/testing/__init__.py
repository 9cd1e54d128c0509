"""A scripted server, recordings, virtual time, cancellation at every point: a kit for tests.

    from penstock.testing import MemoryNetwork, sse_reply, tokens

    network = MemoryNetwork(sse_reply(tokens("Hel", "lo")))
    async with penstock.AsyncClient("http://api.test/v1", network=network) as client: ...

Each name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answers import (
        ToolCallSpec,
        by_model,
        by_stream,
        text_reply,
        tool_call_chunks,
        tool_call_piece,
        tool_calls_reply,
    )
    from .clock import Backend, DeadlockError, VirtualLoop, virtual, virtual_trio_clock
    from .cuts import (
        cut_after_events,
        cut_after_head,
        cut_at,
        cut_in_head,
        drip,
        every_byte,
        split_at,
        two_pieces,
    )
    from .leaks import LeakError, no_leaks
    from .memory import MemoryConnection, MemoryNetwork, MemoryStream
    from .recorder import Recorder
    from .records import Connection
    from .replies import (
        PING,
        completion,
        error_event,
        error_reply,
        json_reply,
        sse_event,
        sse_reply,
        status_reply,
        tokens,
    )
    from .script import (
        Answer,
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
    from .server import Server, becomes_true, closed_port, serve, serve_in_thread
    from .sweep import BackendName, Mode, cancel_sweep, open_fds
    from .transcript import Exchange, Segment, Transcript

__all__ = [
    "PING",
    "Answer",
    "Backend",
    "BackendName",
    "Connection",
    "DeadlockError",
    "End",
    "Exchange",
    "Fault",
    "LeakError",
    "MemoryConnection",
    "MemoryNetwork",
    "MemoryStream",
    "Mode",
    "Pause",
    "RecordedRequest",
    "Recorder",
    "Repeat",
    "Reply",
    "Reset",
    "Script",
    "Segment",
    "Send",
    "Server",
    "Stall",
    "StartTLS",
    "Step",
    "ToolCallSpec",
    "Transcript",
    "VirtualLoop",
    "becomes_true",
    "by_model",
    "by_stream",
    "cancel_sweep",
    "closed_port",
    "completion",
    "cut_after_events",
    "cut_after_head",
    "cut_at",
    "cut_in_head",
    "drip",
    "error_event",
    "error_reply",
    "every_byte",
    "json_reply",
    "no_leaks",
    "open_fds",
    "reply",
    "serve",
    "serve_in_thread",
    "split_at",
    "sse_event",
    "sse_reply",
    "status_reply",
    "text_reply",
    "tokens",
    "tool_call_chunks",
    "tool_call_piece",
    "tool_calls_reply",
    "two_pieces",
    "virtual",
    "virtual_trio_clock",
]

_HOME = {
    "answers": (
        "ToolCallSpec",
        "by_model",
        "by_stream",
        "text_reply",
        "tool_call_chunks",
        "tool_call_piece",
        "tool_calls_reply",
    ),
    "clock": ("Backend", "DeadlockError", "VirtualLoop", "virtual", "virtual_trio_clock"),
    "cuts": (
        "cut_after_events",
        "cut_after_head",
        "cut_at",
        "cut_in_head",
        "drip",
        "every_byte",
        "split_at",
        "two_pieces",
    ),
    "leaks": ("LeakError", "no_leaks"),
    "memory": ("MemoryConnection", "MemoryNetwork", "MemoryStream"),
    "recorder": ("Recorder",),
    "records": ("Connection",),
    "replies": (
        "PING",
        "completion",
        "error_event",
        "error_reply",
        "json_reply",
        "sse_event",
        "sse_reply",
        "status_reply",
        "tokens",
    ),
    "script": (
        "Answer",
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
    "server": (
        "Server",
        "becomes_true",
        "closed_port",
        "serve",
        "serve_in_thread",
    ),
    "sweep": ("BackendName", "Mode", "cancel_sweep", "open_fds"),
    "transcript": ("Exchange", "Segment", "Transcript"),
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
