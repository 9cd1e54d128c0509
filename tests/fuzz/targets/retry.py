"""Retry-After in any spelling: no wait, or a finite one that is not negative; never an exception.

What keeps to RFC 9110, 10.2.3, a number of seconds or a date in one of its three formats, is
read exactly. And whether and when a request is sent again is always within the bounds.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime

from penstock._policy.retry import BACKOFF_LAST, MAX_RETRY_WAIT, retry_delay
from penstock._policy.retry_after import asked_wait, parse_retry_after
from penstock.errors import status_error_class
from penstock.headers import Headers

from ..reader import Reader
from ..target import Target

STATUSES = (429, 503, 402, 400, 408, 409, 500, 301)
ADVICE = ("", "true", "FALSE ", "x")
NOW = 1_700_000_000.0
FORMATS = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y")
_SECONDS = re.compile(rb"[0-9]{1,15}")


def check(data: bytes) -> None:
    reader = Reader(data)
    how = reader.below(4)
    status = reader.pick(STATUSES)
    advice = reader.pick(ADVICE)
    failures = reader.byte()
    if how == 0:
        date(reader)
    lines = [("x-should-retry", advice)] if advice else []
    milliseconds = reader.take(reader.below(16)) if how == 1 else None
    value = reader.rest()
    headers = Headers(
        [
            *lines,
            ("Retry-After", value),
            *([] if milliseconds is None else [("retry-after-ms", milliseconds)]),
        ]
    )
    wait = parse_retry_after(headers, NOW)
    assert wait is None or (math.isfinite(wait) and wait >= 0), value
    if milliseconds is not None and _SECONDS.fullmatch(milliseconds):
        assert wait == int(milliseconds) / 1000
    elif milliseconds is None and _SECONDS.fullmatch(value):
        assert wait == int(value)
    asked = asked_wait(status, headers, parsed(value), NOW)
    assert asked is None or (math.isfinite(asked) and asked >= 0), value
    assert wait is None or asked == wait  # a header counts before the body
    error = status_error_class(status)("no", status_code=status, headers=headers, retry_after=wait)
    delay = retry_delay(error, failures=failures, max_retries=3, random=0.5)
    if failures > 3 or status == 402 or (wait or 0) > MAX_RETRY_WAIT:
        assert delay is None
    elif delay is not None:
        assert delay == wait if wait is not None else 0 < delay <= BACKOFF_LAST


def parsed(value: bytes) -> object:
    """The same bytes as an error's body."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value.decode("latin-1")


def date(reader: Reader) -> None:
    """A date that a server may write, from 1970 to 2068, where the years of two digits end."""
    moment = int.from_bytes(reader.take(4), "big") % 3_092_515_200
    written = reader.pick(FORMATS)
    text = datetime.fromtimestamp(moment, UTC).strftime(written)
    wait = parse_retry_after(Headers([("retry-after", text)]), NOW)
    assert wait == max(0.0, moment - NOW), (text, wait)


TARGET = Target(
    check,
    seeds=[
        b"\x02\x00\x00\x01" + value
        for value in (
            *(b"5", b"0", b"1.5", b"-1", b"nan", b"1e999", b"1_0", b"\xb2", b" 7 ", b"9" * 30),
            b"Wed, 21 Oct 2015 07:28:00 GMT",
            b"Wednesday, 21-Oct-15 07:28:00 GMT",
            b"Wed Oct 21 07:28:00 2015",
            b"Wed, 21 Oct 99999 07:28:00 +9999",
            b"21 Oct 2015 07:28 EST",
        )
    ]
    + [
        b"\x02\x00\x00\x01" + body
        for body in (
            b'{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"7s"}]}}',
            b'{"error":{"metadata":{"headers":{"Retry-After":"3"}}}}',
            b'[{"error":{"details":[{"retryDelay":"1e999s"}]}}]',
        )
    ]
    + [
        b"\x01\x01\x01\x01\x0435005",
        b"\x00\x00\x00\x00\x65\x53\xf1\x00\x01",
        b"\x00\x00\x00\x00\xff\x53\xf1\x00\x02",
    ],
    words=[
        *(b"GMT", b"+0000", b"-9999", b" Oct ", b"Wed, ", b":", b"21", b"2015", b"-15 ", b"1e9"),
        *(b"07:28:00", b"EST", b"am", b"pm", b",", b".", b"nan", b"inf", b"99999999999"),
        *(
            b'"retryDelay":"',
            b's"',
            b'{"error":',
            b'"details":[',
            b'"metadata":{"headers":{',
            b"}}",
        ),
    ],
    max_length=256,
)
