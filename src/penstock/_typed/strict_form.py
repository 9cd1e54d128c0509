"""JSON schemas in the strict form that servers turn into grammars.

OpenAI's guide to structured outputs defines the form, and other servers follow it:

- an object is closed (`additionalProperties: false`) and all its members are required;
- the root is an object; anything else is wrapped in one with the single member `value`;
- `anyOf` is the only combination: `oneOf` becomes `anyOf`, `allOf` is merged;
- every value has a `type`, enums included;
- the guide's keywords and those for lengths stay; `title` is dropped; other information for
  the model (a default, a format that is not in the guide) moves into the description.

References are inlined, except recursive ones. A part without a strict form (mappings with any
keys, values of any type, tuples of different items) is kept: then the schema is not `strict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

import msgspec

__all__ = ["REFERENCE", "Schema", "StrictForm", "closed", "is_list", "is_object", "referred"]

Schema = dict[str, Any]
REFERENCE = "#/$defs/"

_KEPT = (
    "pattern", "minLength", "maxLength",
    "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "minItems", "maxItems",
)  # fmt: skip
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
)
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_SAID = ("contentEncoding", "uniqueItems", "minProperties", "maxProperties", "default", "examples")


class StrictForm:
    """Converts one schema to the strict form."""

    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions
        self._recursive = _recursive(definitions)
        # Recursive definitions that are being inlined at the moment.
        self._inlined: frozenset[str] = frozenset()
        self._aliases: dict[str, str] = {}
        self.emitted: dict[str, Schema] = {}
        """The definitions that the result refers to."""
        self.holds = True
        """Whether everything converted so far has the strict form."""

    def root(self, schema: Schema) -> Schema:
        """Return the strict form of the root, which is never only a reference."""
        return self.form(self._expanded(schema, set()))

    def form(self, schema: Any) -> Schema:
        """Return the strict form of a schema; sets `holds` to False where there is none."""
        if not is_object(schema):  # true (anything) or false (nothing)
            schema = {}
        if (name := _only_referred(schema)) and name in self._recursive:
            # No other keyword is allowed beside a reference.
            return {"$ref": REFERENCE + self._emit(name)}
        names: set[str] = set()
        schema = self._expanded(schema, names)
        outer = self._inlined
        if names & outer:  # it would be merged with itself endlessly
            self.holds = False
            return {}
        self._inlined = outer | (names & self._recursive)
        strict = self._formed(schema)
        self._inlined = outer
        return strict

    def _formed(self, schema: Schema) -> Schema:
        strict: Schema = {}
        if said := _description(schema):
            strict["description"] = said
        branches = schema.get("anyOf") or schema.get("oneOf")
        if branches:
            strict["anyOf"] = [self.form(branch) for branch in branches]
        elif "enum" in schema or "const" in schema:
            strict |= _enumeration(schema.get("enum") or [schema.get("const")])
        elif "properties" in schema:
            formed = {name: self.form(value) for name, value in schema["properties"].items()}
            strict |= closed(formed)
            # Perhaps ["object", "null"].
            strict["type"] = schema.get("type", "object")
        else:
            strict |= self._plain(schema)
        return strict

    def _plain(self, schema: Schema) -> Schema:
        plain = {key: schema[key] for key in ("type", *_KEPT) if key in schema}
        if schema.get("format") in _FORMATS:
            plain["format"] = schema["format"]
        kind = schema.get("type")
        if is_list(kind):
            return {"anyOf": [self._plain({**schema, "type": one}) for one in kind]}
        if kind == "object":
            self.holds = False
            if values := schema.get("additionalProperties"):
                plain["additionalProperties"] = self.form(values)
        elif kind == "array":
            plain |= self._items(schema)
        elif kind is None:
            self.holds = False
        return plain

    def _items(self, schema: Schema) -> Schema:
        places = [self.form(place) for place in schema.get("prefixItems", ())]
        if not places:
            return {"items": self.form(schema.get("items"))}
        if (
            all(place == places[0] for place in places)
            and schema.get("minItems") == schema.get("maxItems") == len(places)
        ):  # fmt: skip
            return {"items": places[0]}
        self.holds = False
        rest = schema.get("items", False)
        return {"prefixItems": places, "items": self.form(rest) if rest else False}

    def _expanded(self, schema: Schema, seen: set[str]) -> Schema:
        """Return the schema with the `$ref` and `allOf` at its top merged into it.

        Adds the names of the merged definitions to `seen`; names already there are skipped.
        """
        while True:
            if name := referred(schema):
                inner = [{} if name in seen else self._definitions.get(name, {})]
                seen.add(name)
            elif "allOf" in schema:
                inner = [self._expanded(part, seen) for part in schema["allOf"]]
            else:
                return schema
            rest = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
            schema = {}
            for part in [*inner, rest]:
                if "properties" in part and "properties" in schema:
                    properties = schema["properties"] | part["properties"]
                    part = {**part, "properties": properties}
                schema |= part

    def _emit(self, name: str) -> str:
        alias = self._aliases.get(name)
        if alias is None:
            short = name.partition(".")[2] or name
            alias = name if short in self._aliases.values() else short
            self._aliases[name] = alias
            self.emitted[alias] = {}  # keeps the order if it refers to itself
            outer, self._inlined = self._inlined, frozenset()
            self.emitted[alias] = self.root(self._definitions[name])
            self._inlined = outer
        return alias


def closed(properties: dict[str, Schema]) -> Schema:
    """Return the schema of an object with exactly these members, all required."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _description(schema: Schema) -> str:
    """Return its description, and what the strict form has no keyword for."""
    said = [key for key in _SAID if schema.get(key) not in _NOTHING]
    if "format" in schema and schema["format"] not in _FORMATS:
        said.append("format")
    notes = ", ".join(f"{key}: {msgspec.json.encode(schema[key]).decode()}" for key in said)
    return " ".join(filter(None, (schema.get("description"), f"({notes})" if notes else "")))


def _enumeration(values: list[Any]) -> Schema:
    """Return an enum with the type of its values; for several types one branch each."""
    by_type: dict[str, list[Any]] = {}
    for value in values:
        by_type.setdefault(_type_of(value), []).append(value)
    branches: list[Schema] = [
        {"type": kind} if kind == "null" else {"type": kind, "enum": members}
        for kind, members in by_type.items()
    ]
    return branches[0] if len(branches) == 1 else {"anyOf": branches}


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "integer" if isinstance(value, int) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if is_list(value) else "object"


def _recursive(definitions: dict[str, Schema]) -> frozenset[str]:
    """Return the names of the definitions that refer to themselves, directly or not."""
    edges = {name: set(_references(schema)) for name, schema in definitions.items()}
    recursive: set[str] = set()
    for start in edges:
        reached: set[str] = set()
        ahead = list(edges[start])
        while ahead:
            name = ahead.pop()
            if name not in reached:
                reached.add(name)
                ahead += edges.get(name, ())
        if start in reached:
            recursive.add(start)
    return frozenset(recursive)


def _references(schema: Any) -> Iterator[str]:
    if is_list(schema):
        for item in schema:
            yield from _references(item)
    elif is_object(schema):
        if name := referred(schema):
            yield name
        for value in schema.values():
            yield from _references(value)


def _only_referred(schema: Schema) -> str | None:
    """Return the name of the definition if the schema is only a reference with a description."""
    parts = schema.get("allOf", ())
    if len(parts) == 1 and schema.keys() <= {"allOf", "title", "description", *_SAID}:
        schema = parts[0]
    return referred(schema)


def referred(schema: Schema) -> str | None:
    """Return the name of the definition that a `$ref` refers to, or None."""
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith(REFERENCE):
        return reference[len(REFERENCE) :].replace("~1", "/").replace("~0", "~")
    return None


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Return whether this is a JSON list."""
    return isinstance(value, list)


def is_object(value: object) -> TypeGuard[Schema]:
    """Return whether this is a JSON object."""
    return isinstance(value, dict)
