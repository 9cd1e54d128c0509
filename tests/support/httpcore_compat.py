"""The one place of the test suite that decides between httpcore and its continuation, httpcore2."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpcore
else:
    _name = os.environ.get("PENSTOCK_HTTPCORE") or (
        "httpcore" if importlib.util.find_spec("httpcore") else "httpcore2"
    )
    httpcore = importlib.import_module(_name)

__all__ = ["httpcore"]
