"""A scripted server, recordings, virtual time, cancellation at every point: a kit for tests.

    from penstock.testing import MemoryNetwork, sse_reply, tokens

    network = MemoryNetwork(sse_reply(tokens("Hel", "lo")))
    async with penstock.AsyncClient("http://api.test/v1", network=network) as client: ...

Each name below is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .answers import ToolCallSpec as ToolCallSpec
    from .answers import by_model as by_model
    from .answers import by_stream as by_stream
    from .answers import text_reply as text_reply
    from .answers import tool_call_chunks as tool_call_chunks
    from .answers import tool_call_piece as tool_call_piece
    from .answers import tool_calls_reply as tool_calls_reply
    from .cassette import Cassette as Cassette
    from .cassette import CassetteMode as CassetteMode
    from .clock import Backend as Backend
    from .clock import DeadlockError as DeadlockError
    from .clock import VirtualLoop as VirtualLoop
    from .clock import virtual as virtual
    from .clock import virtual_trio_clock as virtual_trio_clock
    from .cuts import cut_after_events as cut_after_events
    from .cuts import cut_after_head as cut_after_head
    from .cuts import cut_at as cut_at
    from .cuts import cut_in_head as cut_in_head
    from .cuts import drip as drip
    from .cuts import every_byte as every_byte
    from .cuts import split_at as split_at
    from .cuts import two_pieces as two_pieces
    from .leaks import LeakError as LeakError
    from .leaks import no_leaks as no_leaks
    from .lookups import SlowLookups as SlowLookups
    from .lookups import slow_lookups as slow_lookups
    from .memory import MemoryConnection as MemoryConnection
    from .memory import MemoryNetwork as MemoryNetwork
    from .memory import MemoryStream as MemoryStream
    from .not_recorded import NotRecordedError as NotRecordedError
    from .recorder import Recorder as Recorder
    from .records import Connection as Connection
    from .replies import PING as PING
    from .replies import completion as completion
    from .replies import error_event as error_event
    from .replies import error_reply as error_reply
    from .replies import json_reply as json_reply
    from .replies import sse_event as sse_event
    from .replies import sse_reply as sse_reply
    from .replies import status_reply as status_reply
    from .replies import tokens as tokens
    from .script import Answer as Answer
    from .script import End as End
    from .script import Fault as Fault
    from .script import Pause as Pause
    from .script import RecordedRequest as RecordedRequest
    from .script import Repeat as Repeat
    from .script import Reply as Reply
    from .script import Reset as Reset
    from .script import Script as Script
    from .script import Send as Send
    from .script import Stall as Stall
    from .script import StartTLS as StartTLS
    from .script import Step as Step
    from .script import reply as reply
    from .server import Server as Server
    from .server import becomes_true as becomes_true
    from .server import closed_port as closed_port
    from .server import serve as serve
    from .server import serve_in_thread as serve_in_thread
    from .sweep import BackendName as BackendName
    from .sweep import Mode as Mode
    from .sweep import cancel_sweep as cancel_sweep
    from .sweep import open_fds as open_fds
    from .transcript import Exchange as Exchange
    from .transcript import Segment as Segment
    from .transcript import Transcript as Transcript
else:
    from .._exports import exports

    __getattr__, __dir__, __all__ = exports(
        __name__,
        {
            "answers": (
                "ToolCallSpec by_model by_stream text_reply tool_call_chunks tool_call_piece "
                "tool_calls_reply"
            ),
            "cassette": "Cassette CassetteMode",
            "clock": "Backend DeadlockError VirtualLoop virtual virtual_trio_clock",
            "cuts": (
                "cut_after_events cut_after_head cut_at cut_in_head drip every_byte split_at "
                "two_pieces"
            ),
            "leaks": "LeakError no_leaks",
            "lookups": "SlowLookups slow_lookups",
            "memory": "MemoryConnection MemoryNetwork MemoryStream",
            "not_recorded": "NotRecordedError",
            "recorder": "Recorder",
            "records": "Connection",
            "replies": (
                "PING completion error_event error_reply json_reply sse_event sse_reply "
                "status_reply tokens"
            ),
            "script": (
                "Answer End Fault Pause RecordedRequest Repeat Reply Reset Script Send Stall "
                "StartTLS Step reply"
            ),
            "server": "Server becomes_true closed_port serve serve_in_thread",
            "sweep": "BackendName Mode cancel_sweep open_fds",
            "transcript": "Exchange Segment Transcript",
        },
    )
