"""What the server says to the command line in its tests: a list of models, and chat answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.testing.replies import LAST_CHUNK, chunk, json_reply, sse_event, sse_reply, tokens
from penstock.testing.script import Repeat, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.testing.script import RecordedRequest, Reply

WORDS = ("Hello", " there", "!")
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def hello(finish: str = "stop") -> Reply:
    """A short answer with its usage."""
    return sse_reply(tokens(*WORDS, finish=finish, usage=USAGE))


def endless() -> Reply:
    """An answer that goes on until the client leaves."""
    body = sse_reply(tokens(*WORDS, finish=None), done=False).data.removesuffix(LAST_CHUNK)
    [more] = tokens(" more", finish=None, role_first=False)
    return reply(body, Repeat(chunk(sse_event(more)), every=0.01))


def server_with(
    answer: Reply, models: Sequence[str] = ("tiny",)
) -> Callable[[RecordedRequest], Reply]:
    """A script that lists the models and gives every chat request this answer."""
    listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in models]}

    def script(request: RecordedRequest) -> Reply:
        return json_reply(listed) if request.target.endswith("/models") else answer

    return script


def chat_requests(requests: Sequence[RecordedRequest]) -> list[RecordedRequest]:
    """The requests for an answer, without those for the list of models."""
    return [request for request in requests if request.method == "POST"]
