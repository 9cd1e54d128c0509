"""JSON schemas brought into the strict form: whatever refers to whatever, it comes to an end.

- Every object in it is closed, every reference leads somewhere, and no keyword is left that
  the form does not have.
- Where all of it is said to have the strict form, every part of it has a type.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock._typed.strict_form import _FORMATS, _KEPT, REFERENCE, StrictForm

from ..reader import Reader
from ..target import Target

NAMES = ("A", "B", "1.A", "a~1b")
TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")
MEMBERS = ("a", "b", "value", "$ref", "properties")
VALUES: tuple[Any, ...] = (None, True, 1, 1.5, "x", [], {}, [1], {"a": 1})
SAID: tuple[tuple[str, Any], ...] = (
    ("title", "T"),
    ("description", "says"),
    ("default", {"a": [1]}),
    ("format", "date"),
    ("format", "binary"),
    ("minLength", 1),
    ("pattern", "^a"),
    ("minItems", 2),
    ("maxItems", 2),
    ("uniqueItems", True),
    ("examples", [1]),
    ("discriminator", {"propertyName": "a"}),
)
KEYWORDS = {
    *("type", "description", "anyOf", "enum", "properties", "required", "additionalProperties"),
    *("items", "prefixItems", "$ref", "format", *_KEPT),
}
DEEPEST = 5


def check(data: bytes) -> None:
    reader = Reader(data)
    definitions = {name: schema(reader, DEEPEST) for name in NAMES[: reader.below(5)]}
    written = schema(reader, DEEPEST)
    before = msgspec.json.encode([definitions, written])
    form = StrictForm(definitions)
    root = form.root(written)
    assert "$ref" not in root
    for part in (root, *form.emitted.values()):
        verify(part, form)
    assert msgspec.json.encode([definitions, written]) == before  # they belong to others


def schema(reader: Reader, depth: int) -> dict[str, Any]:
    made = {**shape(reader, depth)}
    for _ in range(reader.below(4)):
        name, value = reader.pick(SAID)
        made[name] = value
    return made


def shape(reader: Reader, depth: int) -> dict[str, Any]:
    kind = reader.below(13)
    if not depth or not reader.left or kind > 9:
        return {"type": reader.pick(TYPES)} if kind != 12 else {}
    if kind == 0:
        name = reader.pick((*NAMES, "missing"))
        return {"$ref": REFERENCE + name.replace("~", "~0").replace("/", "~1")}
    if kind < 4:
        branches = [schema(reader, depth - 1) for _ in range(1 + reader.below(3))]
        return {("anyOf", "oneOf", "allOf")[kind - 1]: branches}
    if kind == 4:
        return {"enum": [reader.pick(VALUES) for _ in range(1 + reader.below(3))]}
    if kind == 5:
        return {"const": reader.pick(VALUES)}
    if kind == 6:
        members = {reader.pick(MEMBERS): schema(reader, depth - 1) for _ in range(reader.below(4))}
        return {"type": reader.pick(("object", ["object", "null"])), "properties": members}
    if kind == 7:
        items = reader.pick((True, False, None))
        return {"type": "array", "items": schema(reader, depth - 1) if items is None else items}
    if kind == 8:
        places = [schema(reader, depth - 1) for _ in range(1 + reader.below(3))]
        return {"type": "array", "prefixItems": places}
    values = reader.pick((True, False, None))
    return {
        "type": ["object", "string"] if reader.below(4) == 1 else "object",
        "additionalProperties": schema(reader, depth - 1) if values is None else values,
    }


def verify(part: Any, form: StrictForm) -> None:
    assert isinstance(part, dict)
    assert set(part) <= KEYWORDS, part
    if "$ref" in part:
        assert list(part) == ["$ref"]
        assert part["$ref"].removeprefix(REFERENCE) in form.emitted
        return
    assert part.get("format", "date") in _FORMATS
    if "properties" in part:
        assert part["required"] == list(part["properties"])
        assert part["additionalProperties"] is False
    inner = [*part.get("anyOf", ()), *part.get("properties", {}).values()]
    inner += part.get("prefixItems", ())
    inner += [part[name] for name in ("items", "additionalProperties") if part.get(name)]
    if form.holds:
        assert "anyOf" in part or "type" in part, part
        assert "prefixItems" not in part
    for one in inner:
        if one is not True:
            verify(one, form)


TARGET = Target(
    check,
    seeds=[
        b"\x00\x06\x00\x02\x00\x0a\x00\x00\x01\x0a\x01\x00\x00",
        b"\x01\x06\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x03" + bytes(range(80)),
        bytes(range(3, 100, 3)),
    ],
    max_length=256,
)
