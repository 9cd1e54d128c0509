"""The JSON schema of a type that msgspec decodes, or of a Pydantic model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import msgspec.inspect

from .decoding import is_model, name_of
from .strict_form import REFERENCE, Schema, StrictForm, closed, is_list, is_object, referred

__all__ = ["MEMBER", "StrictSchema", "schema_name", "strict_schema"]

MEMBER = "value"
"""The member that holds a value that is not an object."""

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")


class StrictSchema(msgspec.Struct, frozen=True):
    """A type's schema, ready to be sent."""

    schema: Schema
    """The JSON schema; its root is an object."""
    strict: bool
    """Whether the whole schema has the strict form."""
    wrapped: bool
    """Whether the type is wrapped in an object with the single member `value`."""


def strict_schema(kind: Any) -> StrictSchema:
    """Return the schema of a type. TypeError if it has none."""
    schema, definitions = _described(kind)
    form = StrictForm(definitions)
    root = form.root(schema)
    wrapped = root.get("type") != "object"
    if wrapped:
        root = closed({MEMBER: root})
    if form.emitted:
        root["$defs"] = form.emitted
    return StrictSchema(root, form.holds, wrapped)


def schema_name(kind: Any) -> str:
    """Return a name for a type's schema that servers accept, the same on every Python."""
    return _NOT_IN_NAMES.sub("_", _spoken(kind)).strip("_")[:64] or "response"


def _spoken(kind: Any) -> str:
    # Python 3.14 gives every union the `__name__` "Union"; earlier versions name some of them.
    origin = get_origin(kind)
    if origin is Annotated:
        return _spoken(kind.__origin__)
    if origin is Union or origin is UnionType:
        return "_".join(map(_spoken, get_args(kind)))
    if kind is NoneType:
        return "None"
    return getattr(kind, "__name__", None) or name_of(kind)


def _described(kind: Any) -> tuple[Schema, dict[str, Schema]]:
    """Return the schema as the type's library writes it, and all its definitions."""
    models: dict[str, Schema] = {}
    references: dict[Any, Schema] = {}

    def model_schema(custom: Any) -> Schema:
        if not is_model(custom):
            raise NotImplementedError
        if custom in references:
            return references[custom]
        # A prefix for its definitions: another model may use the same names.
        prefix = f"{len(models)}."
        schema = _renamed(custom.model_json_schema(), prefix)
        own = schema.pop("$defs", {})
        models.update({f"{prefix}{name}": definition for name, definition in own.items()})
        name = f"{prefix}{custom.__name__}"
        while name in models:
            name += "_"
        models[name] = schema
        references[custom] = {"$ref": f"{REFERENCE}{name}"}
        return references[custom]

    try:
        schema: Schema = msgspec.json.schema(kind, schema_hook=model_schema)
    except KeyError as error:  # msgspec identifies types by name
        raise TypeError(
            f"{name_of(kind)} has no JSON schema: two of its types have the same name"
        ) from error
    except (TypeError, NameError, ValueError) as error:
        reason = str(error).splitlines()[-1]
        raise TypeError(f"{name_of(kind)} has no JSON schema: {reason}") from error
    definitions: dict[str, Schema] = schema.pop("$defs", {})
    for typed_dict in _typed_dicts(kind):
        _put_in_order(definitions, typed_dict)
    return schema, {**definitions, **models}


_INFORMATION = (msgspec.inspect.Type, msgspec.inspect.Field)


def _typed_dicts(kind: Any) -> Iterator[type]:
    """Yield every TypedDict inside the type."""
    seen: dict[int, object] = {}
    ahead: list[Any] = [msgspec.inspect.type_info(kind)]
    while ahead:
        info = ahead.pop()
        if isinstance(info, tuple):
            ahead += info
        elif not isinstance(info, _INFORMATION) or id(info) in seen:
            continue
        else:
            seen[id(info)] = info
            ahead += [getattr(info, name) for name in info.__struct_fields__]
            if isinstance(info, msgspec.inspect.TypedDictType):
                yield info.cls


def _put_in_order(definitions: dict[str, Schema], typed_dict: type) -> None:
    """Restore the definition order of a TypedDict's members, which msgspec loses.

    The model writes the members in this order, so what comes first matters.
    """
    names = list(get_type_hints(typed_dict))
    for schema in definitions.values():
        properties = schema.get("properties", {})
        if schema.get("title") == typed_dict.__name__ and set(properties) == set(names):
            schema["properties"] = {name: properties[name] for name in names}


def _renamed(schema: Any, prefix: str) -> Any:
    if is_list(schema):
        return [_renamed(item, prefix) for item in schema]
    if not is_object(schema):
        return schema
    renamed = {key: _renamed(value, prefix) for key, value in schema.items()}
    if name := referred(schema):
        renamed["$ref"] = f"{REFERENCE}{prefix}{name}"
    return renamed
