"""penstock without `async`: the client, and the fan-outs for plain `with` and `for`.

Written by tests/tools/generate_blocking.py from the async source, but for this file and the
machine that both faces share, `_loop`.
"""

from .client import Client
from .feeds import ChunkIterator, RaceBlock, ResultIterator, fan_out, fan_out_chunks, race
from .resources import Chat, Completions, Models, TextCompletions
from .spread import Spread
from .stream import EventStream, ResponseStream, Stream, TextCompletionStream

__all__ = [
    "Chat",
    "ChunkIterator",
    "Client",
    "Completions",
    "EventStream",
    "Models",
    "RaceBlock",
    "ResponseStream",
    "ResultIterator",
    "Spread",
    "Stream",
    "TextCompletionStream",
    "TextCompletions",
    "fan_out",
    "fan_out_chunks",
    "race",
]
