"""Decodes JSON text to typed responses: fast if it fits the types, otherwise tolerantly.

Rule 10 of the wire (docs/pages/internals/wire.md): msgspec refuses lone surrogates and NaN
even in members it skips, and floats in integer fields; beside its own errors it raises
UnicodeDecodeError and RecursionError. One fast attempt is followed by a tolerant one; if that
fails too, the error is always a ChunkDecodeError.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from penstock.types import ChatCompletion, ChatCompletionChunk, Model, ModelList, decode_json

from .excerpt import excerpt
from .json_values import as_object, as_text, is_list, is_object, scrub
from .lenient import build_chunk, build_completion, build_model

__all__ = [
    "REFUSED",
    "ChunkDecodeError",
    "decode_chunk",
    "decode_completion",
    "decode_models",
    "tolerant",
]

_Built = TypeVar("_Built")

_fast_chunk = msgspec.json.Decoder(ChatCompletionChunk).decode
_fast_completion = msgspec.json.Decoder(ChatCompletion).decode
_fast_model = msgspec.json.Decoder(Model).decode


class _Page(msgspec.Struct, gc=False):
    data: list[msgspec.Raw]
    object: str | None = None


_fast_page = msgspec.json.Decoder(_Page).decode

REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)  # UnicodeDecodeError is a ValueError


class ChunkDecodeError(ValueError):
    """The text is not JSON, or JSON that is not a response."""


def decode_chunk(data: bytes) -> ChatCompletionChunk:
    """Decode one event's data to a chunk, with `data` as its `raw`."""
    try:
        chunk = _fast_chunk(data)
    except REFUSED:
        chunk = tolerant(build_chunk, data)
    chunk.raw = data
    return chunk


def decode_completion(data: bytes) -> ChatCompletion:
    """Decode a whole body to a completion, with `data` as its `raw`."""
    try:
        completion = _fast_completion(data)
    except REFUSED:
        completion = tolerant(build_completion, data)
    completion.raw = data
    return completion


def decode_models(data: bytes) -> ModelList:
    """Decode a list of models, each with its own `raw`.

    A server may send a plain JSON list (exo did, exo-explore/exo#590), null for an empty
    one, or bare names for models. Their `raw` has the usual shape nevertheless.
    """
    try:
        page = _fast_page(data)
        models = [_named_model(item) for item in page.data]
    except REFUSED:
        return _tolerant_models(data)
    return ModelList(data=models, object=page.object, raw=data)


def _named_model(item: msgspec.Raw) -> Model:
    model = _fast_model(item)
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
    model = build_model(scrub(payload))
    model.raw = _encoded(payload)
    return model


def _encoded(payload: Any) -> bytes:
    # The standard library's encoder writes what msgspec refuses to read.
    return json.dumps(payload, separators=(",", ":")).encode("ascii")


def _parsed(data: bytes) -> Any:
    try:
        return decode_json(data)
    except ValueError as error:
        raise ChunkDecodeError(f"not JSON ({error}): {excerpt(data)}") from error


def tolerant(build: Callable[[dict[str, Any]], _Built], data: bytes) -> _Built:
    """Build a value from JSON that the fast decoder refused; raises ChunkDecodeError."""
    payload = _parsed(data)
    if not is_object(payload):
        raise ChunkDecodeError(f"not a JSON object: {excerpt(data)}")
    try:
        return build(scrub(payload))
    except RecursionError as error:
        raise _too_deep(data) from error


def _too_deep(data: bytes) -> ChunkDecodeError:
    return ChunkDecodeError(f"JSON nested too deeply: {excerpt(data)}")
