"""The options of `penstock batch`."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from penstock.cli.batch_options import add_batch_options, setting


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=1", 1),
        ("x=0.5", 0.5),
        ("x=true", True),
        ("x=null", None),
        ('x={"a": [1]}', {"a": [1]}),
        ('x="5"', "5"),
        ("x=high", "high"),
        ("x=", ""),
        ("x=a=b", "a=b"),
        ("x=NaN", "NaN"),
        ("x={", "{"),
    ],
)
def test_a_setting_is_json_or_else_a_string(text: str, value: Any) -> None:
    assert setting(text) == ("x", value)


def test_defaults() -> None:
    parser = argparse.ArgumentParser()
    add_batch_options(parser)
    found = vars(parser.parse_args(["in", "out"]))
    assert found == {
        "input": "in", "output": "out", "provider": None, "base_url": None, "model": None,
        "settings": [], "stream": False, "limit": None, "concurrency": 64, "rpm": None,
        "tpm": None, "no_adaptive": False, "max_retries": 5, "on_cut": "retry", "timeout": None,
        "patience": 300.0, "grace": 20.0, "errors": None, "skip_invalid": False,
        "changed": "stop", "overwrite": False, "ordered": False, "check": False, "report": None,
        "progress": "auto", "progress_every": 10.0,
    }  # fmt: skip
