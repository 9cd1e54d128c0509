"""Tools: typed functions that a model may ask to be called.

    @penstock.tool
    async def get_weather(city: str) -> str:
        "The weather in a city."
        ...

`get_weather` is then a `Tool`: it goes into `tools=[...]` as it is, `await call.call(get_weather)`
calls the function with a call's arguments, and `get_weather("Oslo")` calls it as before.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar, overload

import msgspec

from ._typed.schema import strict_schema
from ._wire.request import encode_json
from .errors import reply_to
from .types import ToolCall

__all__ = ["Tool", "tool", "tool_message"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_KIND = inspect.Parameter


class Tool(Generic[P, R_co]):
    """A function with its name, its description and the JSON schema of its parameters.

    Made by `tool`. Called, it calls the function.
    """

    __slots__ = ("_arguments", "_positional", "description", "function", "name", "schema", "strict")

    def __init__(
        self,
        function: Callable[P, R_co],
        *,
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        self.function: Callable[P, R_co] = function
        """The function itself."""
        self.name: str = _checked_name(function, name)
        summary, explained = _documented(function)
        self.description: str = summary if description is None else description
        parameters = _parameters(function)
        self._positional = [
            parameter.name for parameter, _ in parameters if parameter.kind is _KIND.POSITIONAL_ONLY
        ]
        self._arguments = _arguments_type(self.name, parameters)
        form = strict_schema(self._arguments)
        _describe(form.schema["properties"], parameters, explained)
        self.schema: dict[str, Any] = form.schema
        """The JSON schema of the parameters."""
        self.strict: bool = form.strict
        """Whether all of the schema has the strict form, so that the server can keep to it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function as if it were no tool."""
        return self.function(*args, **kwargs)

    def call(self, call: ToolCall) -> R_co:
        """Call the function with the arguments of a model's call; what it returns.

        For an async function that is something to await. A parameter that the model left out
        has its default. Raises ToolArgumentsError when the arguments are no JSON, are not valid
        for the parameters, or when one is unknown; ValueError when the call is of another tool.
        """
        if call.function.name != self.name:
            raise ValueError(f"the call is of {call.function.name!r}, not of {self.name!r}")
        given: msgspec.Struct = call.parse(self._arguments)
        values = {name: getattr(given, name) for name in given.__struct_fields__}
        positional = [values.pop(name) for name in self._positional]
        anything: Callable[..., R_co] = self.function
        return anything(*positional, **values)

    def for_json(self) -> dict[str, Any]:
        """The tool as it stands in a request's `tools`."""
        function: dict[str, Any] = {"name": self.name}
        if self.description:
            function["description"] = self.description
        function |= {"parameters": self.schema, "strict": self.strict}
        return {"type": "function", "function": function}

    def __repr__(self) -> str:
        return f"<Tool {self.name}({', '.join(self.schema['properties'])})>"


@overload
def tool(
    function: Callable[P, R], /, *, name: str | None = None, description: str | None = None
) -> Tool[P, R]: ...


@overload
def tool(
    *, name: str | None = None, description: str | None = None
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
) -> Any:
    """A typed function as a tool; also a decorator, with or without arguments.

    The name is the function's, the description its docstring without the section "Args:",
    which describes the parameters; so does `Annotated[str, msgspec.Meta(description="...")]`.
    Every parameter needs an annotation that msgspec can decode (or a Pydantic model). TypeError
    says what is wrong with a signature.
    """
    if function is None:
        return partial(Tool[..., Any], name=name, description=description)
    return Tool(function, name=name, description=description)


def tool_message(call: ToolCall, content: object) -> dict[str, Any]:
    """The message that answers a model's call; content that is no text is sent as JSON."""
    text = content if isinstance(content, str) else encode_json(content).decode()
    return {"role": "tool", **reply_to(call), "content": text}


# --- what a function says about itself -----------------------------------------------

Parameter = tuple[inspect.Parameter, Any]  # with its annotation, resolved


def _checked_name(function: Any, name: str | None) -> str:
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise TypeError(f"a tool is made of a function, not of {function!r}")
    chosen: str = function.__name__ if name is None else name
    if not _NAME.fullmatch(chosen):
        raise TypeError(
            f"{chosen!r} is no name for a tool: give one of up to 64 letters a to z, digits,"
            ' _ and - as tool(..., name="...")'
        )
    return chosen


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    where = function.__qualname__
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(f"an annotation of {where}() cannot be resolved: {error}") from error
    parameters: list[Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (_KIND.VAR_POSITIONAL, _KIND.VAR_KEYWORD):
            raise TypeError(f"{where}() takes {parameter}: a tool's parameters all have names")
        if parameter.name not in hints:
            hint = "; decorate bound methods, not methods" if parameter.name == "self" else ""
            raise TypeError(f"the parameter {parameter.name} of {where}() has no annotation{hint}")
        parameters.append((parameter, hints[parameter.name]))
    return parameters


def _arguments_type(name: str, parameters: list[Parameter]) -> type[msgspec.Struct]:
    """A Struct of the parameters; those with a default may be left out."""
    fields: list[Any] = []
    for parameter, annotation in parameters:
        if parameter.default is _KIND.empty:
            fields.append((parameter.name, annotation))
        else:
            # A factory, as msgspec takes no mutable defaults, and copies none.
            default = msgspec.field(default_factory=partial(_same, parameter.default))
            fields.append((parameter.name, annotation, default))
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)


def _same(value: Any) -> Any:
    return value


def _describe(
    properties: dict[str, Any], parameters: list[Parameter], explained: dict[str, str]
) -> None:
    """Say of each parameter what is known; its default too, as in strict form none is optional."""
    for parameter, _ in parameters:
        described = properties[parameter.name]
        if "$ref" in described:  # nothing may stand beside it
            continue
        said = [described.get("description") or explained.get(parameter.name)]
        if parameter.default is not _KIND.empty and parameter.default is not None:
            try:
                said.append(f"(default: {msgspec.json.encode(parameter.default).decode()})")
            except (TypeError, ValueError):
                pass  # one that only Python knows
        if text := " ".join(filter(None, said)):
            described["description"] = text


_SECTION = re.compile(r"^(Args|Arguments|Parameters):\n((?:[ \t]+\S.*\n?|\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"^\*{0,2}(\w+)(?: ?\([^)]*\))?: *(.*)$")


def _documented(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The docstring without its section of parameters, and what that says of each."""
    doc = inspect.getdoc(function) or ""
    section = _SECTION.search(doc)
    if section is None:
        return doc, {}
    explained: dict[str, str] = {}
    entry = ""
    lines = inspect.cleandoc("\n" + section[2]).splitlines()
    for line in lines:
        if found := _ENTRY.match(line):
            entry, text = found[1], found[2]
        else:
            text = line.strip()
        if entry and text:
            explained[entry] = f"{explained.get(entry, '')} {text}".strip()
    rest = doc[: section.start()].rstrip() + "\n\n" + doc[section.end() :].lstrip()
    return rest.strip(), explained
