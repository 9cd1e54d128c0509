"""Sends one request for a row, streamed inside or not, and returns its answer."""

from __future__ import annotations

from typing import Any

import msgspec

from .._call.stream import CompletionStream
from .._call.text_stream import TextCompletionStream
from .._client.endpoint import Endpoint
from .._client.spread_endpoint import SpreadEndpoint
from .._wire.parameters import choices_asked
from ..types import decode_object
from .answers import Answer, answer_of, one_line_body, tokens_of
from .outcomes import json_bytes
from .rows import Row

__all__ = ["Sending"]

# Most servers count the tokens of a stream only if they are asked to.
_STREAM = b'"stream":true,"stream_options":{"include_usage":true}'
_STREAMED = ("/chat/completions", "/completions")


class Sending:
    """How the rows of a job are sent: to which client, and whether completions are streamed."""

    def __init__(self, client: Any, *, stream: bool) -> None:
        self._client = client
        self._stream = stream
        endpoint: Endpoint = client.endpoint
        self._endpoint = endpoint
        self._has_sessions = isinstance(endpoint, SpreadEndpoint) and endpoint.rule is not None

    async def send(self, row: Row) -> Answer:
        """Send one request and return its answer.

        Raises a PenstockError for a failure, and TypeError or ValueError for what cannot be sent.
        """
        options = self._options(row) if self._has_sessions else {}
        if self._stream and row.path.partition("?")[0] in _STREAMED:
            return await self._collect(row, options)
        response = await self._client.request(
            "POST", row.path, json=msgspec.Raw(row.body), max_retries=0, **options
        )
        return answer_of(response)

    def _options(self, row: Row) -> dict[str, Any]:
        """Return the session of a row, by the rule of a Spread."""
        assert isinstance(self._endpoint, SpreadEndpoint)
        return {"session": self._endpoint.session_of(decode_object(row.body), None)}

    async def _collect(self, row: Row, options: dict[str, Any]) -> Answer:
        members = decode_object(row.body)
        endpoint, model = self._endpoint, members.get("model")
        is_chat = row.path.startswith("/chat/")
        # The row's own text: a member that this library would refuse is the server's business.
        call = endpoint.call(
            "POST",
            row.path,
            streamed(row.body),
            streaming=True,
            model=model if isinstance(model, str) else None,
            choices=choices_asked(members, None if is_chat else members.get("prompt")),
            max_retries=0,
            **options,
        )
        made: CompletionStream | TextCompletionStream = (
            CompletionStream(endpoint.service, call)
            if is_chat
            else TextCompletionStream(endpoint.service, call)
        )
        async with made as stream:
            completion = await stream.collect()
        found = completion.to_dict()
        return Answer(
            stream.status_code or 200,
            stream.request_id,
            one_line_body(json_bytes(found)),
            tokens_of(found.get("usage")),
        )


def streamed(body: bytes) -> bytes:
    """Return a row's body, which says nothing about streams, as that of a stream."""
    members = body.strip()[1:-1].strip()
    return b"{%b%b%b}" % (members, b"," if members else b"", _STREAM)
