"""The errors made of what servers say: any body, any status, and never another exception.

Their message is one printable line, they survive pickling and copying, and the key that a
server echoes is in none of them.
"""

from __future__ import annotations

import copy
import pickle

from penstock._call.redact import redact_error
from penstock._wire.error_details import error_details
from penstock._wire.status import status_error
from penstock._wire.stream_error import reports_error, stream_error, unstreamed_error
from penstock.errors import (
    APIResponseError,
    IncompleteStreamError,
    PenstockError,
    StreamError,
    status_error_class,
)
from penstock.headers import Headers
from penstock.types import decode_json

from ..compose import ERROR, json_text
from ..reader import Reader
from ..same import same
from ..target import Target

STATUSES = (300, 301, 307, 399, 400, 401, 402, 403, 404, 405, 409, 418, 422, 429, 500, 503, 599)
TYPES = (None, "", "text/event-stream", "Text/Event-Stream ; x", "text/html", "a\x00\xff b")
SECRET = "hunter2"
KEY = "sk-Secret/0123"


def check(data: bytes) -> None:
    reader = Reader(data)
    status = reader.pick(STATUSES)
    content_type = reader.pick(TYPES)
    location = reader.take(reader.below(32))
    body = json_text(reader, ERROR) if reader.below(2) else reader.rest()
    try:
        payload = decode_json(body)
    except ValueError:
        payload = body.decode("utf-8", "replace")
    details = error_details(payload)
    assert details.status_code is None or 400 <= details.status_code <= 599
    reports_error(payload)
    in_stream = stream_error(payload, body)
    assert (in_stream.code, in_stream.type) == (details.code, details.type)
    presentable(in_stream)
    instead = unstreamed_error(body, content_type)
    assert isinstance(instead, StreamError | APIResponseError | IncompleteStreamError)
    presentable(instead)
    headers = Headers([("Location", location_with_secrets(location)), ("x-request-id", "r1")])
    by_status = status_error(status, headers, body)
    assert type(by_status) is status_error_class(status)
    assert (by_status.status_code, by_status.request_id) == (status, "r1")
    assert SECRET not in str(by_status)
    presentable(by_status)


def location_with_secrets(text: bytes) -> bytes:
    user = bytes(byte for byte in text if byte not in b"/\\?#")
    return b"https://%b:hunter2@host%b/?hunter2#hunter2" % (user, user.partition(b"@")[0])


def presentable(error: PenstockError) -> None:
    message = str(error)
    assert message.strip()
    assert len(message) < 800, message
    assert message.isprintable(), message
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == message
        assert same(again.__dict__.get("body"), error.__dict__.get("body"))
    redact_error(error, KEY)
    assert KEY.lower() not in repr((error, vars(error))).lower()


TARGET = Target(
    check,
    seeds=[
        b"\x04\x00\x00\x00" + body
        for body in (
            b'{"error":{"message":"no","type":"t","param":null,"code":"insufficient_quota"}}',
            b'{"error":"no"}',
            b'{"object":"error","message":"no","code":40303}',
            b'{"detail":[{"loc":["body",0,"model"],"msg":"field required"}]}',
            b'[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]',
            b'{"errors":[{"message":"a"},{"message":"b","code":7003}],"success":false}',
            b"<html><head><title>502 Bad Gateway</title></head><body>no</body></html>",
            b"<html><script>x</script><style>y",
            b"&lt;b&gt; \x00\xff",
            b'{"choices":[]}',
            b'{"error":{"message":"bad sk-Secret/0123"},"SK-secret\\/0123":["sk-Secret"]}',
            b"",
        )
    ]
    + [b"\x01\x02\x08user@x/y\x00", b"\x02\x03\x05[::1]\x00"],
    words=[
        *(b'"error":{', b'"message":"', b'"code":', b'"type":"', b'"detail":[{"loc":[', b'"msg":'),
        *(b'"object":"error"', b'"errors":[{', b'"status":', b'"choices":', b"<title>", b"<head>"),
        *(b"</title>", b"<script>", b"&amp;", b"&#x0;", b"insufficient_quota", KEY.encode()),
    ],
    max_length=512,
)
