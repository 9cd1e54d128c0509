"""The messages of a conversation, in memory and in a file of JSON Lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._typed.members import is_object
from .run import UsageError

if TYPE_CHECKING:
    from .. import ChatCompletion

__all__ = ["History"]

Message = dict[str, Any]


class History:
    """What was said so far. With a file, it begins with the messages there and appends to it."""

    def __init__(self, path: str | None, system: str | None) -> None:
        self._path = None if path is None else Path(path)
        self._messages: list[Message] = []
        if self._path is not None:
            self._messages = _read(self._path)
        if system is not None and not any(each["role"] == "system" for each in self._messages):
            self._add([{"role": "system", "content": system}], first=True)

    def with_prompt(self, prompt: str) -> list[Message]:
        """Return the messages to send: all so far, and the prompt."""
        return [*self._messages, {"role": "user", "content": prompt}]

    def add(self, prompt: str, answer: ChatCompletion) -> None:
        """Keep a turn that is complete."""
        turn: list[Message] = [{"role": "user", "content": prompt}]
        turn += [answer.choices[0].message.for_request()] if answer.choices else []
        self._add(turn)

    def _add(self, messages: list[Message], *, first: bool = False) -> None:
        self._messages = messages + self._messages if first else self._messages + messages
        if self._path is None:
            return
        written = self._messages if first else messages
        text = "".join(f"{json.dumps(message)}\n" for message in written)
        try:
            if first:
                self._path.write_text(text, encoding="utf-8")
            else:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(text)
        except OSError as error:
            raise UsageError(f"cannot write {self._path}: {error.strerror or error}") from error


def _read(path: Path) -> list[Message]:
    if path.exists() and not path.is_file():  # a device may have no end
        raise UsageError(f"cannot read {path}: it is not a file")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    messages: list[Message] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            message: object = json.loads(line)
        except ValueError:
            message = None
        if not is_object(message) or "role" not in message:
            raise UsageError(f"{path}, line {number}, is not a message in JSON")
        messages.append(message)
    return messages
