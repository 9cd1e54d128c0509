r"""The file of a cassette: JSON that a person can read, edit and compare.

    {
      "penstock_cassette": 1,
      "exchanges": [
        {
          "request": {
            "method": "POST",
            "target": "/v1/chat/completions",
            "headers": ["Host: api.openai.com", ...],
            "json": {"model": "gpt-5-mini", "messages": [...]}
          },
          "response": [
            ["HTTP/1.1 200 OK\r\n", "content-type: text/event-stream\r\n", "\r\n"],
            ["data: {...}\n", "\n"]
          ],
          "end": "kept"
        }
      ]
    }

"response" has an item for each read of the network, as text in lines; what is not text is
{"base64": ...}. A request that is not JSON has "text" or "base64" in place of "json".
"""

from __future__ import annotations

import json
import re
import secrets
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from .._typed.members import is_object
from .matching import json_of
from .transcript import Exchange, ExchangeEnd, Segment, decoded, encoded

VERSION = 1


def read(path: Path) -> list[Exchange]:
    """Read a cassette. FileNotFoundError; ValueError if it is not a cassette of this version."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        words = 'there is no cassette; mode="record" makes one'
        raise FileNotFoundError(error.errno, words, str(path)) from None
    try:
        values = json.loads(text)
        if not is_object(values) or "penstock_cassette" not in values:
            raise ValueError("it has no penstock_cassette")
        if values["penstock_cassette"] != VERSION:
            raise ValueError(
                f"version {values['penstock_cassette']}, and this penstock reads {VERSION}"
            )
        return [_exchange(each) for each in values["exchanges"]]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a cassette: {error!r}") from error


def text_of(exchange: Exchange) -> str:
    """Return the part of a file that has this exchange."""
    request: dict[str, Any] = {
        "method": exchange.method,
        "target": exchange.target,
        "headers": [f"{name}: {value}" for name, value in exchange.headers],
    }
    if exchange.body:
        try:
            request["json"] = json_of(exchange.body)
        except ValueError:
            request |= encoded(exchange.body)
    response = [_lines(segment.data) for segment in exchange.segments]
    value = {"request": request, "response": response, "end": exchange.end}
    return json.dumps(value, ensure_ascii=False, indent=2)


def write(path: Path, exchanges: Sequence[str]) -> None:
    """Write the exchanges, as `text_of` returns them. The file is the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    inner = ",\n".join(textwrap.indent(each, "    ") for each in exchanges)
    text = f'{{\n  "penstock_cassette": {VERSION},\n  "exchanges": [\n{inner}\n  ]\n}}\n'
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        with suppress(OSError):  # a new file
            beside.chmod(path.stat().st_mode & 0o777)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _lines(data: bytes) -> Any:
    value = encoded(data)
    if "base64" in value:
        return value
    lines = re.split(r"(?<=\n)", value["text"])
    return lines if lines[-1] else lines[:-1]


def _exchange(value: Any) -> Exchange:
    request = value["request"]
    if "json" in request:
        body = json.dumps(request["json"]).encode()
    else:
        body = decoded(request) if {"text", "base64"} & request.keys() else b""
    if value["end"] not in get_args(ExchangeEnd):
        raise ValueError(f"no way to end: {value['end']!r}")
    return Exchange(
        method=str(request["method"]),
        target=str(request["target"]),
        headers=tuple(_header(line) for line in request["headers"]),
        body=body,
        segments=tuple(Segment(0.0, _joined(each)) for each in value["response"]),
        end=value["end"],
    )


def _header(line: str) -> tuple[str, str]:
    name, colon, text = line.partition(":")
    if not colon:
        raise ValueError(f"not a header: {line!r}")
    return name, text.strip()


def _joined(read: Any) -> bytes:
    return decoded(read) if is_object(read) else "".join(read).encode()
