"""penstock with an observer of every event, which does nothing with them."""

from __future__ import annotations

from penstock.observing.notifier import METHODS

from .penstock_client import driver

__all__ = ["DRIVER"]


def _observer() -> object:
    return type("Silent", (), {name: lambda self, event: None for name in METHODS})()


DRIVER = driver(_observer)
