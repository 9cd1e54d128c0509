"""Scripts that look at the request before they choose the reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .replies import error_reply
from .script import Player, RecordedRequest, Reply, Script


def by_model(
    scripts: Mapping[str, Script], *, other: Script | None = None
) -> Callable[[RecordedRequest], Reply]:
    """Return a script with an answer, or a script of its own, for each model.

    `network = MemoryNetwork(by_model({"a": text_reply("Hello"), "b": error_reply(503)}))`.
    A model that is not there gets `other`, or else the 404 that OpenAI sends.
    """
    players = {model: Player(script) for model, script in scripts.items()}
    fallback: Player | None = None if other is None else Player(other)

    def reply_to(request: RecordedRequest) -> Reply:
        model = str(request.json.get("model")) if request.body else ""
        player = players.get(model, fallback)
        if player is None:
            message = f"The model `{model}` does not exist or you do not have access to it."
            return error_reply(404, message, code="model_not_found", type="invalid_request_error")
        return player.reply_to(request)

    return reply_to


def by_stream(streamed: Script, whole: Script) -> Callable[[RecordedRequest], Reply]:
    """Return a script that tells requests with `"stream": true` from those without."""
    streaming, other = Player(streamed), Player(whole)

    def reply_to(request: RecordedRequest) -> Reply:
        wanted = request.body and request.json.get("stream")
        return (streaming if wanted else other).reply_to(request)

    return reply_to
