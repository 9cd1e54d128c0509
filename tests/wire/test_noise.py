from __future__ import annotations

from typing import Any

import pytest

from penstock._wire.noise import is_noise, says_something


@pytest.mark.parametrize("name", ["obfuscation", "p", "pad", "padding", "random_padding"])
def test_noise(name: str) -> None:
    assert is_noise(name)
    assert not says_something({name: "xyz"})


@pytest.mark.parametrize("name", ["content", "audio", "parts", "x"])
def test_no_noise(name: str) -> None:
    assert not is_noise(name)


@pytest.mark.parametrize(
    "value", [None, "", 0, False, [], {}, [""], [[], {}], {"a": ""}, {"type": "x", "index": 1}]
)
def test_what_says_nothing(value: Any) -> None:
    assert not says_something({"audio": value})


@pytest.mark.parametrize("value", ["x", " ", 1, 0.5, True, [0, 1], {"a": "b"}, [{"id": "x"}]])
def test_what_says_something(value: Any) -> None:
    assert says_something({"audio": value})
    assert says_something({"empty": "", "audio": value})


@pytest.mark.parametrize("name", ["role", "type", "index", "object", "format"])
def test_labels_say_nothing(name: str) -> None:
    assert not says_something({name: "x"})
