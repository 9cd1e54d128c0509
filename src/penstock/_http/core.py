"""The one place that imports httpcore, or httpcore2, its continuation with the same names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpcore
else:
    try:
        import httpcore
    except ImportError:
        import httpcore2 as httpcore

__all__ = ["httpcore"]
