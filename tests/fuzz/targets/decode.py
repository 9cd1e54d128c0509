"""Decoding of chunks, completions and lists of models.

- Any bytes decode or raise ChunkDecodeError, nothing else; what they decode to has the declared
  types and can be encoded.
- `to_dict()` is the payload as the standard library reads it, unless that is very deep.
- The tolerant way agrees with the strict one wherever that accepts. Deliberate difference:
  numbers of more than 63 bits are none to the tolerant way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from penstock._wire.decode import ChunkDecodeError, decode_chunk, decode_completion, decode_models
from penstock._wire.json_values import scrub
from penstock._wire.lenient import build_chunk, build_completion
from penstock.types import ChatCompletion, ChatCompletionChunk, Model, Payload, decode_json

from ..compose import ANSWER, MODELS, json_text
from ..reader import Reader
from ..same import same
from ..target import Target

_DEEP = 500  # brackets; what can be decoded may be too deep for where `to_dict` is called
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
# int() refuses numbers of that length, so one reader gives infinity and the other an integer.
_ENDLESS_NUMBER = re.compile(rb"[0-9]{641}")


def check(data: bytes) -> None:
    reader = Reader(data)
    how = reader.below(4)
    if how < 2:
        text = json_text(reader, ANSWER)
    else:
        text = json_text(reader, MODELS) if how == 2 else reader.rest()
    for decode in (decode_chunk, decode_completion):
        decodes(text, decode)
    models = decodes(text, decode_models)
    if models is not None:
        assert len(models) == len(list(models))
        for model in models:
            assert isinstance(model, Model)
            conforms(model)
    agrees(text, ChatCompletionChunk, build_chunk)
    agrees(text, ChatCompletion, build_completion)


def decodes(text: bytes, decode: Callable[[bytes], Any]) -> Any:
    try:
        response = decode(text)
    except ChunkDecodeError as error:
        message = str(error)
        assert len(message) < 500, message
        assert message.isprintable(), message
        return None
    conforms(response)
    if decode is not decode_models:
        assert response.raw is text
    deep = text.count(b"[") + text.count(b"{") > _DEEP
    if response.raw is text and not deep and not _ENDLESS_NUMBER.search(text):
        assert same(response.to_dict(), plainly_read(text)), text
    return response


def conforms(response: Payload) -> None:
    msgspec.convert(msgspec.to_builtins(response), type(response))
    msgspec.json.encode(response)
    repr(response)


def plainly_read(text: bytes) -> Any:
    return json.loads(text.decode("utf-8", "replace").removeprefix("\ufeff"))


def agrees(text: bytes, kind: type[Payload], build: Callable[[dict[str, Any]], Payload]) -> None:
    if _LONG_NUMBER.search(text):
        return
    try:
        strict = msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return
    try:
        tolerant = build(scrub(decode_json(text)))
    except RecursionError:  # its limit is lower, and where it counts the strict way was not taken
        return
    tolerant.raw = strict.raw
    assert same(msgspec.to_builtins(tolerant), msgspec.to_builtins(strict)), text


ODDITIES = (
    rb'{"x":"\ud83d"}',
    b'{"x":NaN,"choices":[{"delta":{"content":"Hi"}}]}',
    b'{"created":1e999,"id":7,"choices":[{"index":null,"delta":{"content":["a"]}}]}',
    b'\xef\xbb\xbf{"id":"x"}',
    b'{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"text":"a"}]},"b"]}}]}',
    b'{"choices":[{"index":0,"message":{"tool_calls":{"function":{"arguments":{"a":1}}}}}]}',
    b'{"choices":[{"logprobs":{"content":[{"token":"a","logprob":-Infinity,"bytes":[1.0]}]}}]}',
    b'{"choices":null,"usage":{"prompt_tokens":1.0,"completion_tokens":"2"}}',
    b'[{"id":"a"},"b",null,{"created":1.5},{"id":5,"created":null}]',
    b'{"data":[{"id":"\\ud83d","x":NaN}]}',
    b"null",
    b"[" * 400,
)

TARGET = Target(
    check,
    seeds=[b"\x03" + text for text in ODDITIES],
    words=[
        *(b'"choices":[', b'{"index":0,', b'"delta":{', b'"content":"', b'"finish_reason":"stop"'),
        *(b'"tool_calls":[{', b'"function":{', b'"arguments":"', b'"message":{', b'"usage":{'),
        *(b'"total_tokens":', b'"data":[', b'"id":', b'"created":', b'"x_groq":{', b'"error":'),
        *(b"null", b"true", b"NaN", b"Infinity", b"1e999", b"\\ud83d", b"\\u0000", b'":[{"'),
        *(b'"logprobs":{', b'"logprob":', b'"bytes":[', b'"reasoning":', b'"annotations":'),
    ],
    max_length=512,
)
