"""The raw sockets with llhttp (`httptools`), which parses heads and framing in C."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .base import Driver, Pause, Received
from .by_hand import DONE, Events, body, decode_chunk, decode_completion, decode_models
from .raw_sockets import RawPeer, opens

__all__ = ["DRIVER"]

httptools: Any = import_module("httptools")


class Answer:
    """One response, which llhttp calls."""

    __slots__ = ("_body", "_parser", "ended")

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self.ended = False

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            raise ValueError(f"status {status}")

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        self.ended = True

    def feed(self, data: bytes) -> bytes:
        """Return what these bytes add to the body."""
        self._parser.feed_data(data)
        parts, self._body = self._body, []
        return parts[0] if len(parts) == 1 else b"".join(parts)


class LlhttpPeer(RawPeer):
    async def stream(self, model: str, pause: Pause) -> Received:
        events, after = 0, pause.after
        parts = pause.parts()
        split, answer = Events(), Answer()
        stream = await self.send("POST", "/chat/completions", body(model, stream=True))
        try:
            while not answer.ended:
                for event in split.feed(answer.feed(await stream.receive())):
                    if event == DONE:
                        continue
                    events += 1
                    content = decode_chunk(event).choices[0].delta.content
                    if content:
                        parts.append(content)
                    if events == after:
                        await pause.wait()
        except BaseException:
            stream.close()
            raise
        self.keep(stream)
        return Received(events, "".join(parts))

    async def create(self, model: str) -> Received:
        content = await self._read("POST", "/chat/completions", body(model, stream=False))
        return Received(1, decode_completion(content).choices[0].message.content or "")

    async def models(self) -> Received:
        listed = decode_models(await self._read("GET", "/models", b""))
        return Received(1, " ".join(model.id for model in listed.data))

    async def _read(self, method: str, path: str, content: bytes) -> bytes:
        stream, answer = await self.send(method, path, content), Answer()
        whole = b""
        while not answer.ended:
            whole += answer.feed(await stream.receive())
        self.keep(stream)
        return whole


DRIVER = Driver(opens(LlhttpPeer))
