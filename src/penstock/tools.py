"""Tools: typed functions that a model can call.

    @penstock.tool
    async def get_weather(city: str) -> str:
        "The weather in a city."
        ...

`get_weather` is now a `Tool`. Put it into `tools=[...]`; `await call.call(get_weather)` calls the
function with the model's arguments, and `get_weather("Oslo")` calls it as before.
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
from ._wire.encode import encode_json
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

    `tool` makes one. Calling it calls the function. TypeError if the function's signature or
    name does not fit a tool.
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
        """The wrapped function."""
        self.name: str = _checked_name(function, name)
        """The tool's name in requests; by default the function's."""
        summary, explained = _documented(function)
        self.description: str = summary if description is None else description
        """What the model is told about the tool; by default the function's docstring."""
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
        """Whether the whole schema has the strict form, which servers can enforce."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    def call(self, call: ToolCall, /) -> R_co:
        """Call the function with the arguments of a model's call and return its result.

        An async function returns an awaitable. A parameter that the model left out gets its
        default. ToolArgumentsError if the arguments are not JSON, do not fit the parameters,
        or include an unknown one; ValueError if the call is for another tool.
        """
        if call.function.name != self.name:
            raise ValueError(f"the call is for {call.function.name!r}, not for {self.name!r}")
        given: msgspec.Struct = call.parse(self._arguments)
        values = {name: getattr(given, name) for name in given.__struct_fields__}
        positional = [values.pop(name) for name in self._positional]
        anything: Callable[..., R_co] = self.function
        return anything(*positional, **values)

    def for_json(self) -> dict[str, Any]:
        """Return the tool as JSON, as a request's `tools` takes it."""
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
    """Make a tool of a typed function. Also a decorator, with or without arguments.

    By default the tool has the function's name, and its docstring as the description. The
    docstring's section "Args:" describes the parameters, and so does
    `Annotated[str, msgspec.Meta(description="...")]`. Every parameter needs an annotation that
    msgspec can decode, or a Pydantic model. TypeError says what is wrong with a signature.
    """
    if function is None:
        return partial(Tool[..., Any], name=name, description=description)
    return Tool(function, name=name, description=description)


def tool_message(call: ToolCall, content: object) -> dict[str, Any]:
    """Return the message that answers a model's call. Content that is not a string becomes JSON.

    TypeError if the content cannot be written as JSON.
    """
    text = content if isinstance(content, str) else encode_json(content).decode()
    return {"role": "tool", **reply_to(call), "content": text}


# --- a function's signature and docstring --------------------------------------------

Parameter = tuple[inspect.Parameter, Any]  # and its resolved annotation


def _checked_name(function: Any, name: str | None) -> str:
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise TypeError(f"a tool needs a function, not {function!r}")
    chosen: str = function.__name__ if name is None else name
    if not _NAME.fullmatch(chosen):
        raise TypeError(
            f"{chosen!r} is not a valid tool name: pass one of up to 64 letters a to z, digits,"
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
            raise TypeError(f"{where}() takes {parameter}: all parameters of a tool need names")
        if parameter.name not in hints:
            hint = "; decorate bound methods, not methods" if parameter.name == "self" else ""
            raise TypeError(f"the parameter {parameter.name} of {where}() has no annotation{hint}")
        parameters.append((parameter, hints[parameter.name]))
    return parameters


def _arguments_type(name: str, parameters: list[Parameter]) -> type[msgspec.Struct]:
    """Return a Struct of the parameters; those with a default are optional."""
    fields: list[Any] = []
    for parameter, annotation in parameters:
        if parameter.default is _KIND.empty:
            fields.append((parameter.name, annotation))
        else:
            # A factory, because msgspec refuses mutable defaults and does not copy them.
            default = msgspec.field(default_factory=partial(_same, parameter.default))
            fields.append((parameter.name, annotation, default))
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)


def _same(value: Any) -> Any:
    return value


def _describe(
    properties: dict[str, Any], parameters: list[Parameter], explained: dict[str, str]
) -> None:
    """Describe each parameter, with its default: in the strict form all parameters are required."""
    for parameter, _ in parameters:
        described = properties[parameter.name]
        if "$ref" in described:  # no other keyword is allowed beside it
            continue
        said = [described.get("description") or explained.get(parameter.name)]
        if parameter.default is not _KIND.empty and parameter.default is not None:
            try:
                said.append(f"(default: {msgspec.json.encode(parameter.default).decode()})")
            except (TypeError, ValueError):
                pass  # the default is not JSON
        if text := " ".join(filter(None, said)):
            described["description"] = text


_SECTION = re.compile(r"^(Args|Arguments|Parameters):\n((?:[ \t]+\S.*\n?|\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"^\*{0,2}(\w+)(?: ?\([^)]*\))?: *(.*)$")


def _documented(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the docstring without its section of parameters, and their descriptions."""
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
