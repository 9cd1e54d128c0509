"""Bodies that come in pieces: their framing, and who may send them again."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._http.network import Deadline, Upload
from penstock._http.pieces import BodyMismatch, Pieces, PiecewiseUpload
from penstock._wire.chunked import ChunkedBody
from penstock.testing.plugin import virtual_backend as anyio_backend

from .deadlines import NoDeadline
from .pipe import Pipe

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


async def wire_of(pieces: Pieces) -> bytes:
    await pieces.start()
    sent = b""
    while (data := await pieces.next()) is not None:
        sent += data
    assert await pieces.next() is None
    return sent


async def two(closed: list[str]) -> AsyncIterator[bytes]:  # noqa: ASYNC900 - its user closes it
    try:
        yield b"ab"
        yield b"c"
    finally:
        closed.append("closed")


def decoded(wire: bytes) -> bytes:
    body = ChunkedBody()
    data = body.feed(wire)
    assert body.finished
    assert not body.excess
    return data


@given(st.lists(st.binary(max_size=20)))
def test_chunks_spell_the_body(given_pieces: list[bytes]) -> None:
    assert decoded(asyncio.run(wire_of(Pieces(given_pieces)))) == b"".join(given_pieces)


async def test_with_a_length_bytes_go_as_they_are() -> None:
    assert await wire_of(Pieces([b"ab", b"", b"c"], length=3)) == b"abc"


@pytest.mark.parametrize(
    ("length", "words"), [(2, "1 bytes longer"), (4, "ends 1 bytes before"), (0, "2 bytes longer")]
)
async def test_another_length_is_an_error(length: int, words: str) -> None:
    with pytest.raises(BodyMismatch, match=words):
        await wire_of(Pieces([b"ab", b"c"], length=length))


async def test_any_kind_of_iterable() -> None:
    closed: list[str] = []

    class Twice:
        def __aiter__(self) -> AsyncIterator[bytes]:
            return two(closed)

    def three() -> Iterator[bytes]:
        yield from (b"ab", b"c")

    repeatable: list[Any] = [[bytearray(b"ab"), memoryview(b"c")], Twice()]
    for source in repeatable:
        pieces = Pieces(source)
        for _ in range(2):
            assert decoded(await wire_of(pieces)) == b"abc"
            assert not pieces.spent
    iterators: list[Any] = [three(), io.BytesIO(b"abc"), two(closed)]
    for source in iterators:
        assert not Pieces(source).spent
        pieces = Pieces(source)
        assert decoded(await wire_of(pieces)) == b"abc"
        assert pieces.spent
        with pytest.raises(RuntimeError, match="used up"):
            await pieces.start()
    assert closed == ["closed"] * 3


@pytest.mark.parametrize("piece", ["text", None, 3])
async def test_pieces_are_bytes(piece: Any) -> None:
    with pytest.raises(TypeError, match="pieces must be bytes"):
        await wire_of(Pieces([piece]))


async def test_what_is_under_way_can_be_ended() -> None:
    closed: list[str] = []
    pieces = Pieces(two(closed))
    await pieces.start()
    assert await pieces.next() == b"2\r\nab\r\n"
    await pieces.aclose()
    await pieces.aclose()
    assert closed == ["closed"]
    assert await pieces.next() is None


@pytest.mark.parametrize("goes_on", [False, True], ids=["cancelled", "goes on"])
@pytest.mark.parametrize("how", ["generator", "iterator"])
async def test_another_task_may_end_it_while_a_piece_is_awaited(how: str, goes_on: bool) -> None:
    steps: list[str] = []
    go_on = anyio.Event()

    async def slow() -> AsyncGenerator[bytes]:  # noqa: ASYNC900 - a source, as users write them
        try:
            yield b"ab"
            await go_on.wait()
            yield b"c"
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)  # a clean-up that takes its time
            steps.append("closed")

    class Steps:
        def __init__(self) -> None:
            self._steps = slow()

        def __aiter__(self) -> Steps:
            return self

        async def __anext__(self) -> bytes:
            return await anext(self._steps)

        async def aclose(self) -> None:
            steps.append("asked to close")
            await self._steps.aclose()

    pieces = Pieces(slow() if how == "generator" else Steps())
    await pieces.start()
    await pieces.next()
    async with anyio.create_task_group() as group:
        group.start_soon(pieces.next)
        await anyio.sleep(1)
        await pieces.aclose()
        await pieces.aclose()
        if goes_on:
            go_on.set()
        else:
            group.cancel_scope.cancel()
    assert sorted(steps) == (["asked to close"] if how == "iterator" else []) + ["closed"]
    assert await pieces.next() is None


async def test_steps_may_run_elsewhere() -> None:
    ran: list[Any] = []

    async def run(fn: Any) -> Any:
        ran.append(fn)
        return fn()

    pieces = Pieces(iter([b"ab", b"c"]), run=run)
    assert decoded(await wire_of(pieces)) == b"abc"
    assert len(ran) == 3


async def test_an_upload_in_pieces_stays_begun() -> None:
    pieces = Pieces([b"ab"])
    await pieces.start()
    upload = PiecewiseUpload(b"head", pieces)
    seen: list[bool] = []

    class Sink(Pipe):
        async def upload(self, upload: Upload, deadline: Deadline) -> bool:
            seen.append(upload.begun)
            upload.advance(len(upload))
            return True

        def is_clean(self) -> bool:
            return True

    assert await upload.write(Sink(), NoDeadline())
    assert seen == [False, True, True]
