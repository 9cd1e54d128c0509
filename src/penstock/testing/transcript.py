r"""What a real server sent, with its times: a value, a file, and replies that play it again.

The file is JSON Lines. The first line has the version. A line with "request" begins an exchange;
lines with "at" have what arrived, in seconds after the request; "end" says how it ended:

    {"penstock_transcript": 1, "recorded": "2026-11-20T11:00:00+00:00"}
    {"request": {"method": "POST", "target": "/v1/chat/completions", "headers": [...]}}
    {"at": 0.25, "text": "HTTP/1.1 200 OK\r\n..."}
    {"at": 0.31, "base64": "4oI="}
    {"at": 0.31, "end": "kept"}
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

from .script import End, Pause, Reply, Reset, Send, Stall, Step

VERSION = 1

ExchangeEnd: TypeAlias = Literal["kept", "server closed", "reset", "client closed"]

_LAST_STEP: Mapping[ExchangeEnd, tuple[Step, ...]] = {
    "kept": (),
    "server closed": (End(),),
    "reset": (Reset(),),
    "client closed": (Stall(),),  # the rest is unknown
}


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes that one read returned."""

    at: float
    """Seconds after the request was sent."""
    data: bytes
    """The bytes."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, and its answer."""

    method: str
    """The request's method."""
    target: str
    """The request's path, with the query."""
    headers: tuple[tuple[str, str], ...] = ()
    """The request's headers, without the values of credentials."""
    body: bytes | None = None
    """The request's body; None if it was left out."""
    segments: tuple[Segment, ...] = ()
    """The answer, as each read returned it."""
    end: ExchangeEnd = "kept"
    """How it ended; "kept" means that the response was whole and the connection could be reused."""
    ended_at: float = 0.0
    """When it ended, in seconds after the request was sent."""

    @property
    def data(self) -> bytes:
        """All bytes of the answer."""
        return b"".join(segment.data for segment in self.segments)

    def reply(self, *, timed: bool = True) -> Reply:
        """Return a reply that plays the exchange: the same segments and the same end.

        `timed`: with the pauses between them. An exchange that the client ended falls silent
        where the record ends.
        """
        steps: list[Step] = []
        now = 0.0
        for segment in self.segments:
            if timed and segment.at > now:
                steps.append(Pause(segment.at - now))
                now = segment.at
            steps.append(Send(segment.data))
        if timed and self.ended_at > now:
            steps.append(Pause(self.ended_at - now))
        return Reply((*steps, *_LAST_STEP[self.end]))


@dataclass(frozen=True, slots=True)
class Transcript:
    """A recording."""

    exchanges: tuple[Exchange, ...] = ()
    """The exchanges, in the order of their requests."""
    recorded: str = ""
    """When, as an ISO date and time; empty if unknown."""

    def replies(self, *, timed: bool = True) -> list[Reply]:
        """Return a script: the first request gets the first answer, and so on.

        The last answer is for all further requests. Each can be cut, split or slowed down like any
        reply.
        """
        return [exchange.reply(timed=timed) for exchange in self.exchanges]

    def save(self, path: str | Path) -> None:
        """Write it to a file."""
        Path(path).write_text(self.dumps(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Transcript:
        """Read it from a file. ValueError if it is not a transcript, or of a newer version."""
        return cls.loads(Path(path).read_text(encoding="utf-8"))

    def dumps(self) -> str:
        """Return the file's text."""
        lines: list[dict[str, Any]] = [{"penstock_transcript": VERSION, "recorded": self.recorded}]
        for exchange in self.exchanges:
            request: dict[str, Any] = {
                "method": exchange.method,
                "target": exchange.target,
                "headers": exchange.headers,
            }
            if exchange.body is not None:
                request["body"] = encoded(exchange.body)
            lines.append({"request": request})
            lines += [{"at": each.at, **encoded(each.data)} for each in exchange.segments]
            lines.append({"at": exchange.ended_at, "end": exchange.end})
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    @classmethod
    def loads(cls, text: str) -> Transcript:
        """Read it from the file's text. ValueError as with `load`."""
        # Not splitlines(): a text may have a U+2028, which JSON does not escape.
        lines = [line for line in text.split("\n") if line.strip()]
        number = 1
        try:
            if not lines:
                raise ValueError("it is empty")
            header = _object(lines[0])
            version = header["penstock_transcript"]
            if version != VERSION:
                raise ValueError(f"version {version}, and this penstock reads {VERSION}")
            exchanges: list[Exchange] = []
            unfinished: Exchange | None = None
            segments: list[Segment] = []
            for text_line in lines[1:]:
                number += 1
                line = _object(text_line)
                if "request" in line:
                    if unfinished is not None:
                        raise ValueError("the exchange before has no end")
                    unfinished, segments = _request(line["request"]), []
                elif unfinished is None:
                    raise ValueError("a request must come first")
                elif "end" in line:
                    exchanges.append(_finished(unfinished, segments, line))
                    unfinished = None
                else:
                    segments.append(Segment(float(line["at"]), decoded(line)))
            if unfinished is not None:
                raise ValueError("the last exchange has no end")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"not a transcript, line {number}: {error!r}") from error
        return cls(tuple(exchanges), str(header.get("recorded", "")))


def _request(values: Mapping[str, Any]) -> Exchange:
    return Exchange(
        method=str(values["method"]),
        target=str(values["target"]),
        headers=tuple((str(name), str(value)) for name, value in values["headers"]),
        body=decoded(values["body"]) if "body" in values else None,
    )


def _finished(exchange: Exchange, segments: list[Segment], last: Mapping[str, Any]) -> Exchange:
    if last["end"] not in get_args(ExchangeEnd):
        raise ValueError(f"no way to end: {last['end']!r}")
    return replace(exchange, segments=tuple(segments), end=last["end"], ended_at=float(last["at"]))


def _object(line: str) -> Mapping[str, Any]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise TypeError("an object is expected here")
    return cast("dict[str, Any]", value)


def encoded(data: bytes) -> dict[str, str]:
    """Return bytes as a member of a JSON object: text, or else base64."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def decoded(value: Mapping[str, str]) -> bytes:
    """Return the bytes that `encoded` was given."""
    if "text" in value:
        return value["text"].encode()
    return base64.b64decode(value["base64"], validate=True)
