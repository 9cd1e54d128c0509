"""The same bytes in every way a network may cut them."""

from __future__ import annotations

from collections.abc import Iterator


def in_pieces(data: bytes) -> Iterator[list[bytes]]:
    """Whole, in two pieces at each place, byte by byte, and with empty pieces between."""
    yield [data]
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]
    single = [data[place : place + 1] for place in range(len(data))]
    yield single
    yield [piece for byte in single for piece in (byte, b"")]
