"""The rest of an upload, written while the response is being read."""

from __future__ import annotations

from .network import ConnectionFailed, Deadline, NetworkStream, Upload

__all__ = ["Duplex"]


class Duplex(NetworkStream):
    """Another stream whose `receive` also writes what is left of the request.

    For a server that answers with a success before it has read the whole request. Such a
    connection never serves another request.
    """

    __slots__ = ("_inner", "_upload")

    def __init__(self, inner: NetworkStream, upload: Upload) -> None:
        self._inner = inner
        self._upload: Upload | None = upload

    async def receive(self, deadline: Deadline) -> bytes:
        if self._upload is not None:
            try:
                if await self._upload.write(self._inner, deadline):
                    self._upload = None
            except ConnectionFailed:
                # What the server has sent may still be read, and says how it ended.
                self._upload = None
        return await self._inner.receive(deadline)

    def receive_nowait(self) -> bytes:
        return self._inner.receive_nowait()

    async def send(self, data: bytes, deadline: Deadline) -> None:
        await self._inner.send(data, deadline)

    async def upload(self, upload: Upload, deadline: Deadline) -> bool:
        return await self._inner.upload(upload, deadline)

    def is_clean(self) -> bool:
        return False

    def close(self) -> None:
        self._inner.close()

    async def aclose(self, grace: float | None) -> None:
        await self._inner.aclose(grace)
