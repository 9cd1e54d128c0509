"""Builds the SDK's response models from parsed JSON: equal to what the SDK builds, but faster.

The SDK walks the annotations of a class again for every object, and validates what is optional.
Here the annotations of a class are read once, into a `_Model`. The SDK has two ways to make a part
of a response, and so there are two kinds of `_Model`:

- What is required is *constructed*: members are taken as they are, whatever their types.
- What is optional is *validated*, and constructed if it is not valid. Values that have exactly the
  annotated types come out of both the same. A strict `_Model` builds these, and gives `_MISS` for
  any other, which is then left to the SDK.

The names of an object's members repeat from chunk to chunk, and what follows from them is kept as
a `_Shape`.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import get_annotations
from types import UnionType
from typing import Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin

import pydantic
from openai import BaseModel
from openai._models import construct_type
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

__all__ = ["build", "builder"]

M = TypeVar("M", bound=pydantic.BaseModel)

Build = Callable[[Any], Any]

_MISS: Final[Any] = object()
"""In place of a value that is left to the SDK."""
_SHAPES: Final = 128  # for each class: a server that invents names must not fill the memory
_VALIDATORS: Final = ("validators", "field_validators", "root_validators", "model_validators")

_set = object.__setattr__


def build(cls: type[M], data: object) -> M:
    """Return what the SDK makes of parsed JSON for this class: an instance, if it is an object."""
    return cast("M", builder(cls)(data))


def builder(cls: type[Any]) -> Build:
    """Return the function that builds values of this class, as `build` does."""
    found = _builders.get(cls)
    if found is None:
        found = _builders[cls] = _constructed(cls)
    return found


_builders: dict[type[Any], Build] = {}


class _Shape:
    """What follows from the names of an object's members."""

    __slots__ = ("extra", "parts", "set")

    def __init__(self, model: _Model, names: tuple[str, ...]) -> None:
        # Validated, what is unknown counts as set, too.
        known = [name for name in names if model.strict or name in model.defaults]
        self.set: frozenset[str] = frozenset(known)
        self.extra: tuple[str, ...] = tuple(name for name in names if name not in model.defaults)
        self.parts: tuple[_Part, ...] = tuple(
            model.parts[name] for name in names if name in model.parts
        )


class _Part:
    """One field whose values are not simply taken."""

    __slots__ = ("build", "default", "name", "nullable", "taken")

    def __init__(
        self, name: str, taken: type | None, build: Build, default: Any, *, nullable: bool
    ) -> None:
        self.name = name
        self.taken = taken
        """Values of this type are taken as they are."""
        self.build = build
        """Builds the others, or gives _MISS."""
        self.default = default
        """What stands for null."""
        self.nullable = nullable
        """Whether null is a value of the annotated type."""


class _Model:
    """Builds the instances of one class that has nothing but plain fields."""

    __slots__ = ("_cls", "_shapes", "defaults", "parts", "required", "strict")

    def __init__(self, cls: type[BaseModel], *, strict: bool) -> None:
        self._cls = cls
        self.strict = strict
        self._shapes: dict[tuple[str, ...], _Shape | None] = {}
        self.defaults: dict[str, Any] = {}
        self.required: set[str] = set()
        self.parts: dict[str, _Part] = {}
        for name, field in cls.model_fields.items():
            default = field.get_default()
            self.defaults[name] = None if default is PydanticUndefined else default
            if field.is_required():
                self.required.add(name)

    def read_fields(self) -> None:
        """Read the annotations; a second step, as they may lead back to this class."""
        for name, field in self._cls.model_fields.items():
            part = self._part(name, field, self.defaults[name])
            if part is not None:
                self.parts[name] = part

    def _part(self, name: str, field: FieldInfo, default: Any) -> _Part | None:
        if self.strict:
            taken, exact, nullable = _exact(field.annotation)
            if field.metadata:
                taken, exact = None, _miss
            return _Part(name, taken, exact, None, nullable=nullable)
        taken, loose = _loose(field)
        if taken is object and default is None:
            return None
        return _Part(name, taken, loose, default, nullable=True)

    def build(self, data: Any) -> Any:
        """Return the instance for an object; what the SDK makes of anything else, or _MISS."""
        if type(data) is not dict:
            return self._left(data)
        members = cast("dict[str, Any]", data)
        names = tuple(members)
        try:
            shape = self._shapes[names]
        except KeyError:
            shape = self._new_shape(names)
        if shape is None:
            return self._left(members)
        values = self.defaults | members
        for part in shape.parts:
            value = members[part.name]
            if value is None:
                if not part.nullable:
                    return _MISS
                values[part.name] = part.default
            elif type(value) is not part.taken:
                value = part.build(value)
                if value is _MISS:
                    return _MISS
                values[part.name] = value
        extra: dict[str, Any] = {}
        for name in shape.extra:
            extra[name] = values.pop(name)
        instance = self._cls.__new__(self._cls)
        _set(instance, "__dict__", values)
        _set(instance, "__pydantic_fields_set__", set(shape.set))
        _set(instance, "__pydantic_extra__", extra)
        _set(instance, "__pydantic_private__", None)
        return instance

    def _left(self, value: Any) -> Any:
        return _MISS if self.strict else construct_type(value=value, type_=self._cls)

    def _new_shape(self, names: tuple[str, ...]) -> _Shape | None:
        """Return the shape of these members; None if one is missing without which it is invalid."""
        shape = None
        if not self.strict or self.required.issubset(names):
            shape = _Shape(self, names)
        if len(self._shapes) < _SHAPES:
            self._shapes[names] = shape
        return shape


# --- what is constructed ---


def _constructed(annotation: Any) -> Build:
    """Return what builds values as the SDK's `construct_type` does."""

    def left(value: Any) -> Any:
        return construct_type(value=value, type_=annotation)

    if _is_plain(annotation):
        model = _Model(annotation, strict=False)
        _builders[annotation] = model.build
        model.read_fields()
        return model.build
    if get_origin(annotation) is list and _is_plain(get_args(annotation)[0]):
        item = builder(get_args(annotation)[0])

        def items(value: Any) -> Any:
            parts: Any = value
            return list(map(item, parts)) if type(value) is list else left(value)

        return items
    if _optional(annotation) is not None:
        _, exact, _ = _exact(annotation)

        def validated(value: Any) -> Any:
            built = exact(value)
            return left(value) if built is _MISS else built

        return validated
    return left


def _loose(field: FieldInfo) -> tuple[type | None, Build]:
    """Return the type that is taken as it is (object: any), and what builds other values."""
    annotation: Any = field.annotation
    if field.metadata:
        metadata = field.metadata
        return None, lambda value: construct_type(value=value, type_=annotation, metadata=metadata)
    inner = _optional(annotation)
    if inner is not None:
        # One of another name than the SDK knows comes back as it is, too.
        taken = str if _names(inner) else inner if inner in _SCALARS else None
        return taken, _constructed(annotation)
    if annotation in (str, int, bool, object, Any) or get_origin(annotation) is Literal:
        return object, _taken
    return (float if annotation is float else None), _constructed(annotation)


# --- what is validated ---


def _exact(annotation: Any) -> tuple[type | None, Build, bool]:
    """Return the type that is taken, what builds other values of the annotated type, or _MISS.

    The last value says whether null is one of them.
    """
    inner = _optional(annotation)
    if inner is not None:
        taken, exact, _ = _exact(inner)
        return taken, exact, True
    if annotation in _SCALARS:
        return annotation, _exactly(annotation), False
    names = _names(annotation)
    if names:
        return None, lambda value: value if type(value) is str and value in names else _MISS, False
    if _is_plain(annotation) and not _has_validators(annotation):
        return None, _strict(annotation).build, False
    if get_origin(annotation) is list:
        return None, _exact_list(get_args(annotation)[0]), False
    return None, _miss, False


def _exact_list(annotation: Any) -> Build:
    _, item, nullable = _exact(annotation)
    if nullable:
        return _miss

    def build_list(value: Any) -> Any:
        parts: Any = value
        if type(value) is not list:
            return _MISS
        items: list[Any] = []
        for part in parts:
            built = item(part)
            if built is _MISS:
                return _MISS
            items.append(built)
        return items

    return build_list


def _strict(cls: type[BaseModel]) -> _Model:
    model = _strict_models.get(cls)
    if model is None:
        model = _strict_models[cls] = _Model(cls, strict=True)
        model.read_fields()
    return model


_strict_models: dict[type[Any], _Model] = {}


# --- annotations ---

_SCALARS: Final = (str, int, bool, float)


def _taken(value: Any) -> Any:
    return value


def _miss(value: Any) -> Any:
    return _MISS


def _exactly(kind: type) -> Build:
    return lambda value: value if type(value) is kind else _MISS


def _optional(annotation: Any) -> Any:
    """Return X of `Optional[X]`; None for anything else."""
    if get_origin(annotation) not in (Union, UnionType):
        return None
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return parts[0] if len(parts) == 1 and len(get_args(annotation)) == 2 else None


def _names(annotation: Any) -> frozenset[str]:
    """Return the values of a `Literal` of strings; none for anything else."""
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    return frozenset(values) if all(isinstance(value, str) for value in values) else frozenset()


def _is_plain(cls: Any) -> bool:
    """Whether a class is the SDK's and adds nothing to its construction: no aliases above all."""
    return (
        isinstance(cls, type)
        and issubclass(cls, BaseModel)
        and not any(field.alias is not None for field in cls.model_fields.values())
        and not cls.__private_attributes__
        and cls.model_config.get("extra") == "allow"
        and not any(
            "__pydantic_extra__" in get_annotations(base)
            for base in cls.__mro__
            if base not in (pydantic.BaseModel, BaseModel)
        )
        and _function(cls.construct) is _function(BaseModel.construct)
    )


def _function(method: Any) -> Any:
    return method.__func__


def _has_validators(cls: type[BaseModel]) -> bool:
    decorators = cls.__pydantic_decorators__
    return any(getattr(decorators, kind) for kind in _VALIDATORS)
