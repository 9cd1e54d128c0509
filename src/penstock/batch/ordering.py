"""`--ordered`: an output file in the order of the input, sorted when all is done.

While answers come in they are written as they come: to hold one back would lose it on a kill.
"""

from __future__ import annotations

import os
from array import array
from contextlib import suppress
from pathlib import Path
from typing import IO

import anyio.lowlevel

from .journal import custom_id_of
from .lines import InputFile, is_blank
from .rows import InvalidRow, check_line
from .words import WordMap, word_of
from .writing import WriteFailed

__all__ = ["positions_of", "sort_output"]

_TURN = 256  # lines between turns for the other tasks


async def positions_of(file: InputFile) -> WordMap:
    """Return the position of each row of a file, by the word of its custom_id."""
    positions = WordMap()
    index = 0
    for number, line in enumerate(file, 1):
        if not number % _TURN:
            await anyio.lowlevel.checkpoint()
        if is_blank(line):
            continue
        with suppress(InvalidRow):
            key = word_of(check_line(line)[0])
            if key not in positions:
                positions.put(key, index)
        index += 1
    return positions


async def sort_output(path: str, positions: WordMap) -> None:
    """Put the lines of an output file into the order of the positions, as a new file.

    Lines of other rows come last, in the order they had. Raises WriteFailed; the file is then as
    it was.
    """
    target = os.path.realpath(path)
    with open(target, "rb") as file:  # noqa: ASYNC230, PTH123
        order, is_sorted = await _order_of(file, positions)
        if is_sorted:
            return
        new = Path(f"{target}.ordered")
        try:
            with open(new, "wb", buffering=1 << 20) as sorted_file:  # noqa: ASYNC230, PTH123
                os.fchmod(sorted_file.fileno(), os.fstat(file.fileno()).st_mode & 0o7777)
                for number, offset in enumerate(order):
                    if not number % _TURN:
                        await anyio.lowlevel.checkpoint()
                    file.seek(offset)
                    sorted_file.write(file.readline())
                sorted_file.flush()
                os.fsync(sorted_file.fileno())
            new.replace(target)
        except OSError as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise WriteFailed(f"cannot sort {path}: {error.strerror}") from None
        except BaseException:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise


async def _order_of(file: IO[bytes], positions: WordMap) -> tuple[array[int], bool]:
    """Return where the lines begin, in the order they are to have, and whether they have it."""
    # By position, one more than the offset; a row has several lines only where others wrote some.
    first = array("Q", bytes(8 * len(positions)))
    further: dict[int, list[int]] = {}
    rest = array("Q")
    latest, is_sorted = -1, True
    offset = 0
    for number, line in enumerate(file, 1):
        if not number % _TURN:
            await anyio.lowlevel.checkpoint()
        custom_id = custom_id_of(line)
        position = None if custom_id is None else positions.get(word_of(custom_id))
        if position is None:
            rest.append(offset)
        else:
            is_sorted = is_sorted and position >= latest and not rest
            latest = position
            if position >= len(first):  # invalid rows have positions, too
                first.extend(array("Q", bytes(8 * (position + 1 - len(first)))))
            if first[position]:
                further.setdefault(position, []).append(offset)
            else:
                first[position] = offset + 1
        offset += len(line)
    order = array("Q")
    for position, begin in enumerate(first):
        if begin:
            order.append(begin - 1)
            order.extend(further.get(position, ()))
    order.extend(rest)
    return order, is_sorted
