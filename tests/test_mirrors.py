"""Each module of the library has a test module of its own, where one looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "penstock"

# Where a module without a mirror is tested, and why it has none.
ELSEWHERE = {
    "types/base": ("test_types.py", "a part of the types"),
    "types/chunks": ("test_types.py", "a part of the types"),
    "types/completions": ("test_types.py", "a part of the types"),
    "types/json_text": ("test_types.py", "a part of the types"),
    "types/logprobs": ("test_types.py", "a part of the types"),
    "types/messages": ("test_types.py", "a part of the types"),
    "types/models": ("test_types.py", "a part of the types"),
    "types/text": ("test_types.py", "a part of the types"),
    "types/tool_calls": ("test_types.py", "a part of the types"),
    "types/usage": ("test_types.py", "a part of the types"),
    "__main__": ("cli/test_main.py", "it only calls the command line"),
    "_version": ("test_init.py", "one value, which the package shows"),
    "_call/base_stream": ("call/test_stream.py", "what every stream has in common"),
    "_http/off_loop": ("http/test_authorities.py", "what is done there"),
    "_limiter/lent": ("limiter/test_slots.py", "slots that are lent"),
    "observing/added": ("observing/test_notifier.py", "who is told"),
    "observing/figures": ("call/test_timings.py", "where they are made"),
    "otel/names": ("otel/test_attributes.py", "whose names they are"),
    "_call/body": ("call/test_reader.py", "what every reader has in common"),
    "_call/held": ("call/test_attempts.py", "the slots of an attempt"),
    "_call/live_call": ("call/test_attempts.py", "how a call ends"),
    "_call/refusal": ("call/test_attempts.py", "how an attempt ends"),
    "_call/route": ("client/test_spread.py", "the way of a call over several servers"),
    "_client/spread_endpoint": ("client/test_spread.py", "a part of Spread"),
    "_call/secrets": ("call/test_redact.py", "what is masked"),
    "_wire/odd_answers": ("wire/test_completion_ends.py", "where an answer without sense ends"),
    "_client/endpoint": ("client/test_client.py", "how a client makes its calls"),
    "compat/_bodies": ("compat/test_transport.py", "what a response is read by"),
    "compat/_plan": ("compat/test_transport.py", "a value that the transport obeys"),
    "compat/openai/_options": ("compat/openai/test_clients.py", "keywords, for type checkers"),
    "testing/cassette_stream": ("testing/test_cassette.py", "a connection of a cassette"),
    "testing/not_recorded": ("testing/test_cassette.py", "what a cassette raises"),
    "testing/tape": ("testing/test_recorder.py", "what a recorder records on"),
    "cli/local": ("cli/test_chat.py", "the embedded model for a command"),
    "cli/options": ("cli/test_batch_options.py", "options that commands share"),
    "cli/server": ("cli/test_chat.py", "where a prompt goes"),
    "cli/parser": ("cli/test_main.py", "the grammar of the command line"),
    "cli/demo_figures": ("cli/test_demo.py", "what the demo shows"),
    "blocking/resources": ("blocking/generated/test_resources.py", "generated as the module is"),
    "blocking/views": ("blocking/generated/test_views.py", "generated as the module is"),
    "blocking/_loop/facade": ("blocking/test_client.py", "a client but for its methods"),
    "blocking/_loop/feeding": ("blocking/test_feeds.py", "a fan-out but for its methods"),
    "blocking/_loop/reading": ("blocking/test_stream.py", "a stream but for its methods"),
}

MODULES = sorted(
    path.relative_to(SOURCE).with_suffix("").as_posix()
    for path in SOURCE.rglob("*.py")
    if path.stem != "__init__"
)


def mirror(module: str) -> Path:
    """Its folder's name without the underscore, which only says who may import it."""
    *folders, name = (part.strip("_") for part in module.split("/"))
    return TESTS.joinpath(*folders, f"test_{name}.py")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_its_mirror(module: str) -> None:
    path = TESTS / ELSEWHERE[module][0] if module in ELSEWHERE else mirror(module)
    assert path.is_file()
    assert "def test_" in path.read_text(encoding="utf-8")


def test_what_is_tested_elsewhere_is_there() -> None:
    assert ELSEWHERE.keys() <= set(MODULES)
