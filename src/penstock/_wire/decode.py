"""Decodes JSON text to typed responses: fast if it fits the types, otherwise tolerantly.

Rule 10 of the wire (docs/pages/internals/wire.md): msgspec refuses lone surrogates and NaN
even in members it skips, and floats in integer fields; beside its own errors it raises
UnicodeDecodeError and RecursionError. So there are three ways, each tried if the one before
it fails:

1. Decode to the type. It refuses unknown members, so most chunks need no more.
2. Decode to a dict, set unknown members aside in `extra`, convert it to the type.
3. Build the nearest value of the type (`lenient`).

If all fail, the error is a ChunkDecodeError. The number of objects and choices is bounded
before anything is built of them, so that no event takes much longer than its bytes do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import msgspec

from penstock._typed.members import EXTRA, Shape, set_aside, shape_of
from penstock.types import (
    ChatCompletion,
    ChatCompletionChunk,
    Model,
    ModelList,
    Payload,
    decode_json,
)

from .call_id import new_call_id
from .excerpt import MAX_DEPTH, excerpt, is_too_deep
from .json_values import as_object, as_text, is_list, is_object, scrub
from .lenient import build_chunk, build_completion, build_model

__all__ = [
    "MAX_CHOICES",
    "MAX_OBJECTS",
    "REFUSED",
    "ChunkDecodeError",
    "check_objects",
    "chunk_decoder",
    "decode_chunk",
    "decode_completion",
    "decode_models",
    "tolerant",
    "tolerant_chunk",
]

MAX_CHOICES = 4096
"""Bound on the choices of one answer; OpenAI's `n` goes up to 128."""
MAX_OBJECTS = 262_144
"""Bound on the objects and lists of one response, unless they have 16 bytes each on average."""

_BYTES_PER_OBJECT = 16  # on average; log probabilities, the densest there are, have 30

_Built = TypeVar("_Built", bound=Payload)


@cache
def chunk_decoder() -> Callable[[bytes], ChatCompletionChunk]:
    """Return what decodes most chunks; the others are for `tolerant_chunk`.

    Made for the first stream, as other decoders are for the first answer: msgspec takes
    milliseconds to look through the types.
    """
    return msgspec.json.Decoder(ChatCompletionChunk).decode


class _Counted(msgspec.Struct, gc=False):
    pass


class _Outline(msgspec.Struct, gc=False):
    choices: list[_Counted] = []


class _Page(msgspec.Struct, gc=False):
    data: list[msgspec.Raw]
    object: str | None = None


REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)  # UnicodeDecodeError is a ValueError
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class ChunkDecodeError(ValueError):
    """The text is not JSON, or JSON that is not a response."""


def decode_chunk(data: bytes) -> ChatCompletionChunk:
    """Decode one event's data to a chunk, with `data` as its `raw`.

    Its `extra` is set, be it empty, if any of its parts has members without a field. A caller
    must have large data checked by `check_objects` first.
    """
    try:
        chunk = chunk_decoder()(data)
    except REFUSED:
        chunk = tolerant_chunk(data)
    chunk.raw = data
    return chunk


def tolerant_chunk(data: bytes) -> ChatCompletionChunk:
    """Decode what `chunk_decoder()` refuses, but for `raw`. Raises ChunkDecodeError."""
    return tolerant(ChatCompletionChunk, build_chunk, data)


def decode_completion(data: bytes) -> ChatCompletion:
    """Decode a whole body to a completion, with `data` as its `raw`.

    Tool calls that came without an id are given one.
    """
    check_objects(data)
    try:
        completion = msgspec.json.decode(data, type=ChatCompletion)
    except REFUSED:
        completion = tolerant(ChatCompletion, build_completion, data)
    if len(completion.choices) > MAX_CHOICES:
        raise _too_many_choices()
    for choice in completion.choices:
        for call in choice.message.tool_calls or ():
            call.id = call.id or new_call_id()
    completion.raw = data
    return completion


def decode_models(data: bytes) -> ModelList:
    """Decode a list of models, each with its own `raw`.

    A server may send a plain JSON list (exo did, exo-explore/exo#590), null for an empty
    one, or bare names for models. Their `raw` has the usual shape nevertheless.
    """
    try:
        page = msgspec.json.decode(data, type=_Page)
        decode = msgspec.json.Decoder(Model).decode
        models = [_named(decode(item), item) for item in page.data]
    except REFUSED:
        return _tolerant_models(data)
    return ModelList(data=models, object=page.object, raw=data)


def _named(model: Model, item: msgspec.Raw) -> Model:
    if not model.id:
        raise ValueError("an entry without a name needs the tolerant decoder")
    model.raw = bytes(item)
    return model


def _tolerant_models(data: bytes) -> ModelList:
    payload = _parsed(data)
    if is_list(payload):
        payload = {"object": "list", "data": payload}
        data = b'{"object":"list","data":%b}' % data.removeprefix(b"\xef\xbb\xbf")
    if not is_object(payload) or "data" not in payload:
        raise ChunkDecodeError(f"not a list of models: {excerpt(data)}")
    items = payload["data"]
    try:
        models = [_model(item) for item in items if item] if is_list(items) else []
    except RecursionError as error:
        raise _too_deep(data) from error
    return ModelList(data=models, object=scrub(as_text(payload.get("object"))), raw=data)


def _model(item: Any) -> Model:
    payload = as_object(item) or {"id": item}
    model = build_model(payload)
    model.raw = _encoded(payload)
    return model


def _encoded(payload: Any) -> bytes:
    # The standard library's encoder writes what msgspec refuses to read.
    return json.dumps(payload, separators=(",", ":")).encode("ascii")


def check_objects(data: bytes) -> None:
    """Raise ChunkDecodeError for too many objects or choices, before they are built.

    Takes less than a tenth of the time that decoding takes.
    """
    objects = data.count(b"{") + data.count(b"[")
    if objects <= MAX_CHOICES:
        return
    if objects > max(MAX_OBJECTS, len(data) // _BYTES_PER_OBJECT):
        raise ChunkDecodeError(f"{objects} objects and lists in {len(data)} bytes")
    try:
        choices = len(msgspec.json.decode(data, type=_Outline).choices)
    except REFUSED:
        return  # not valid, or not of that type: counted once it is parsed
    if choices > MAX_CHOICES:
        raise _too_many_choices()


def _too_many_choices() -> ChunkDecodeError:
    return ChunkDecodeError(f"an answer of more than {MAX_CHOICES} choices")


def _parsed(data: bytes) -> Any:
    try:
        payload = decode_json(data)
        return scrub(payload) if _SURROGATE.search(data) else payload
    except ValueError as error:
        raise ChunkDecodeError(f"not JSON ({error}): {excerpt(data)}") from error
    except RecursionError as error:
        raise _too_deep(data) from error


def tolerant(kind: type[_Built], build: Callable[[dict[str, Any]], _Built], data: bytes) -> _Built:
    """Decode JSON that the fast decoder refused: convert it to the type, or else build it.

    Members without a field go to `extra` of their part. Raises ChunkDecodeError.
    """
    payload = _parsed(data)
    if not is_object(payload):
        raise ChunkDecodeError(f"not a JSON object: {excerpt(data)}")
    choices = payload.get("choices")
    if is_list(choices) and len(choices) > MAX_CHOICES:
        raise _too_many_choices()
    shape = shape_of(kind)
    found = set_aside(payload, shape)
    if found:
        payload.setdefault(EXTRA, {})
        if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
            _drop_deep(payload, shape)
    try:
        return msgspec.convert(payload, kind)
    except REFUSED:
        pass
    try:
        return build(payload)
    except RecursionError as error:
        raise _too_deep(data) from error


def _drop_deep(payload: dict[str, Any], shape: Shape) -> None:
    """Drop unknown members too deep for an error that carries them to be copied."""
    extra = payload.get(EXTRA)
    if extra:
        payload[EXTRA] = {name: item for name, item in extra.items() if not is_too_deep(item)}
    for name, inner in shape.inner:
        value = payload.get(name)
        for item in value if is_list(value) else (value,):
            if is_object(item):
                _drop_deep(item, inner)


def _too_deep(data: bytes) -> ChunkDecodeError:
    return ChunkDecodeError(f"JSON nested too deeply: {excerpt(data)}")
