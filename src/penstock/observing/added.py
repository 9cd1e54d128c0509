"""The observers of every client, in a module of its own: without one nothing else is needed."""

from __future__ import annotations

__all__ = ["added"]

added: list[object] = []
"""Observers of every client that is made from now on; see `add_observer`."""
