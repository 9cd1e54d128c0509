"""The README's examples run as they stand, and its table of providers is the one in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sybil import Sybil

from penstock import providers
from penstock.testing.replies import completion, json_reply
from tests.support.examples import Examples, python_blocks

README = Path(__file__).parents[1] / "README.md"


def test_the_examples_run() -> None:
    document = Sybil(parsers=[python_blocks]).parse(README)
    examples = Examples()
    examples.setup(document.namespace)
    printed: list[str] = []
    try:
        for example in document.examples():
            if "response_format=City" in example.parsed:
                answer = completion('{"name": "Paris", "inhabitants": 2}')
                document.namespace["server"].next_answer = json_reply(answer)
            example.evaluate()
            printed.append(document.namespace["printed"])
    finally:
        examples.teardown(document.namespace)
    first, stopped, whole, many, hedged, blocking, careful, structured, watched = printed
    assert first == "Hello there!\nstop\n"
    assert stopped == whole == hedged == blocking == "Hello there!\n"
    assert sorted(many.splitlines()) == [f"{index} Hello there!" for index in range(3)]
    assert careful == ""
    assert structured == "City(name='Paris', inhabitants=2)\n"
    assert watched.startswith("gpt-5-mini completed None ")


@pytest.mark.parametrize("page", [README, README.parent / "docs/pages/reference/providers.md"])
def test_the_table_of_providers_is_complete(page: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\S+)` \| (.+) \| `(\w+)` \|$", page.read_text(), re.M)
    shipped = [value for value in vars(providers).values() if isinstance(value, providers.Provider)]
    assert sorted(rows) == sorted(
        (
            provider.name,
            provider.base_url,
            f"`{provider.api_key_env}`" if provider.key_required else "none needed",
            provider.base_url_env,
        )
        for provider in shipped
    )
