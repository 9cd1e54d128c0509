"""The models a server offers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .base import Answer, Payload

__all__ = ["Model", "ModelList"]


class Model(Payload, kw_only=True, forbid_unknown_fields=False):
    """A model the server offers; its `id` goes into `model=`."""

    id: str = ""
    """Name of the model."""
    owned_by: str | None = None
    """Organization that owns the model, as the server names it."""
    created: int | float | None = None
    """Time of creation in seconds since the epoch."""
    object: str | None = None
    """Usually model."""


class ModelList(Answer, kw_only=True, forbid_unknown_fields=False):
    """The models a server offers: iterable, with a length, indexed by position or by key."""

    data: list[Model] = []
    """The models, in the server's order."""
    object: str | None = None
    """Usually list."""

    def __iter__(self) -> Iterator[Model]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, key: Any) -> bool:
        return key in self.data if isinstance(key, Model) else super().__contains__(key)

    def __getitem__(self, key: str | int) -> Any:
        return self.data[key] if isinstance(key, int) else self.to_dict()[key]

    def to_dict(self) -> dict[str, Any]:
        """Return the payload as the server sent it, or the fields of a list made by hand."""
        if self.raw is None:
            return {"object": self.object, "data": [model.to_dict() for model in self.data]}
        return super().to_dict()
