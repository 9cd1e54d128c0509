"""JSON of servers, right and wrong, composed from a fuzzer's choices.

Raw bytes seldom become JSON with the members that a decoder looks for. Here most choices keep
to a shape, some put anything in its place. What comes out is text, not values, since duplicate
members, lone surrogates, NaN and odd spellings of numbers exist in text alone.
"""

from __future__ import annotations

from typing import TypeAlias

from .reader import Reader

Shape: TypeAlias = "str | dict[str, Shape] | list[Shape]"

USAGE: Shape = {
    "prompt_tokens": "whole",
    "completion_tokens": "whole",
    "total_tokens": "whole",
    "prompt_tokens_details": {"cached_tokens": "whole", "audio_tokens": "whole"},
    "completion_tokens_details": {"reasoning_tokens": "whole"},
}
PART: Shape = {"type": "text", "text": "text", "thinking": "any", "refusal": "text"}
TOOL_CALL: Shape = {
    "index": "whole",
    "id": "text",
    "type": "text",
    "function": {"name": "text", "arguments": "text"},
}
MESSAGE: Shape = {
    "content": "text",
    "role": "text",
    "refusal": "text",
    "reasoning": "text",
    "reasoning_content": "text",
    "tool_calls": [TOOL_CALL],
    "annotations": ["any"],
}
PARTS: Shape = {"content": [PART], "reasoning": [PART]}
LOGPROB: Shape = {
    "token": "text",
    "logprob": "number",
    "bytes": ["whole"],
    "top_logprobs": [{"token": "text", "logprob": "number", "bytes": ["whole"]}],
}
CHOICE: Shape = {
    "index": "whole",
    "delta": MESSAGE,
    "finish_reason": "text",
    "logprobs": {"content": [LOGPROB], "refusal": [LOGPROB]},
    "usage": USAGE,
    "message": MESSAGE,
}
ERROR: Shape = {
    "message": "text",
    "code": "any",
    "type": "text",
    "param": "text",
    "status": "any",
    "detail": [{"loc": ["any"], "msg": "text"}],
    "error": "any",
    "errors": ["any"],
}
ANSWER: Shape = {
    "choices": [CHOICE],
    "id": "text",
    "object": "text",
    "created": "number",
    "model": "text",
    "usage": USAGE,
    "system_fingerprint": "text",
    "service_tier": "text",
    "x_groq": {"id": "text", "usage": USAGE, "error": ERROR},
    "error": ERROR,
    "penstock.raw": "any",
}
MODELS: Shape = {
    "data": [{"id": "text", "owned_by": "text", "created": "number", "object": "text"}],
    "object": "text",
}

TEXTS = (
    *(b'""', b'"a"', b'"stop"', b'"error"', b'"text"', b'"thinking"', b'"refusal"', b'"7"'),
    *(b'"{"', b'"}"', b'"{}"', b'"{\\"a\\":1}"', b'" "', b'"\\n"', b'"\\ud83d"', b'"\\ude00"'),
    *(b'"\\ud83d\\ude00"', b'"\xc3\xa9"', b'"\xff"', b'"\xe2\x80\xa8"', b'"\\u0000"', b'"[DONE]"'),
)
WHOLES = (
    *(b"0", b"1", b"2", b"-1", b"2147483648", b"9223372036854775807", b"9223372036854775808"),
    *(b"18446744073709551616", b"-9223372036854775809", b"400", b"503", b"1700000000"),
)
NUMBERS = (*WHOLES, b"0.0", b"-0", b"1.5", b"-2.5e-3", b"1e3", b"1E400", b"1e19")
CONSTANTS = (b"null", b"true", b"false", b"[]", b"{}")
JUNK = (b"NaN", b"-Infinity", b"'a'", b"", b"01", b"1.", b'"a', b"[1,", b'{"a":', b"1" * 700)
ANYTHING = (*CONSTANTS, *TEXTS, *NUMBERS, *JUNK)
KINDS = {"text": TEXTS, "whole": WHOLES, "number": NUMBERS, "any": ANYTHING}


def json_text(reader: Reader, shape: Shape) -> bytes:
    """A JSON value of about this shape."""
    how = reader.byte()
    if how >= 0xE0:
        return _anything(reader, how)
    if isinstance(shape, str):
        return reader.pick(KINDS[shape])
    if isinstance(shape, list):
        items = [json_text(reader, reader.pick(shape)) for _ in range(how % 4)]
        return b"[" + b",".join(items) + b"]"
    names = list(shape)
    members = []
    for _ in range(how % 8):
        name = reader.pick(names)
        members.append(b'"%b":%b' % (name.encode(), json_text(reader, shape[name])))
    return b"{" + b",".join(members) + b"}"


def _anything(reader: Reader, how: int) -> bytes:
    if how < 0xF8:
        return reader.pick(ANYTHING)
    inner = reader.pick(ANYTHING)
    if how < 0xFA:
        return b"[%b,%b]" % (inner, reader.pick(ANYTHING))
    if how < 0xFC:
        return b'{"text":%b,"x":%b}' % (inner, reader.pick(ANYTHING))
    if how == 0xFC:
        depth = 8 * reader.byte()
        return b"[" * depth + inner + b"]" * depth
    return reader.take(reader.below(16))


def event_stream(reader: Reader) -> bytes:
    """The body of a streamed answer."""
    body = b"\xef\xbb\xbf" if reader.byte() == 0xFF else b""
    while reader.left:
        body += _event(reader)
    return body


def _event(reader: Reader) -> bytes:
    how = reader.byte()
    newline = (b"\n", b"\n", b"\r\n", b"\r")[how & 3]
    field = (b"data: ", b"data:")[how >> 2 & 1]
    kind = how >> 3
    if kind < 16:
        payload = json_text(reader, {"choices": [CHOICE]})
    elif kind < 24:
        payload = json_text(reader, ANSWER)
    elif kind < 27:
        payload = reader.pick((b"[DONE]", b" [DONE] ", b"{}", b"", b"null", b"[DONE]x"))
    elif kind == 27:
        name = reader.pick((b"error", b"message", b"ping", b"", b"chunk"))
        field = b"event: " + name + newline + field
        payload = json_text(reader, ANSWER)
    elif kind == 28:
        return b": ping" + newline * 2
    elif kind == 29:
        return reader.take(reader.below(24))
    elif kind == 30:
        payload = json_text(reader, ERROR)
    else:
        return field + json_text(reader, ANSWER) + newline  # no end of the event
    return field + payload + newline * 2
