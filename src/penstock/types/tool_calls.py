"""Tool calls, whole and in pieces."""

from __future__ import annotations

import builtins
from typing import Any, Protocol, TypeVar, overload

import msgspec

from .._typed.decoding import decode_as, name_of
from .._typed.forgiving import decode_forgivingly
from ..errors import ToolArgumentsError
from .base import Part, part_of

__all__ = ["CallsTool", "CustomCall", "Function", "FunctionDelta", "ToolCall", "ToolCallDelta"]

T = TypeVar("T")


R = TypeVar("R")


R_co = TypeVar("R_co", covariant=True)


class Function(Part):
    """Function of a tool call."""

    name: str = ""
    """Name of the function, from the request's `tools`."""
    arguments: str = ""
    """Arguments as the JSON text the model wrote, which may be invalid."""


class CallsTool(Protocol[R_co]):
    """A `penstock.Tool`, as `ToolCall.call` needs it."""

    def call(self, call: ToolCall, /) -> R_co:
        """Call the tool's function with the arguments of this call."""
        ...


class CustomCall(Part):
    """A call of a custom tool, which takes free text."""

    name: str = ""
    """Name of the tool, from the request's `tools`."""
    input: str = ""
    """What the model wrote for it."""


class ToolCall(Part):
    """A whole tool call."""

    id: str | None = None
    """Identifies the call in the tool's reply. A call that came without one was given one."""
    type: str = "function"
    """Kind of the call: function, custom or a server's own."""
    function: Function = msgspec.field(default_factory=Function)
    """Function to call, with its arguments; empty in a call of another kind."""

    @property
    def custom(self) -> CustomCall | None:
        """Custom tool to call, with its input; None in a call of another kind."""
        return part_of(CustomCall, self.extra, "custom")

    @overload
    def parse(self, kind: builtins.type[T], /, *, lenient: bool = False) -> T: ...

    @overload
    def parse(self, kind: Any, /, *, lenient: bool = False) -> Any: ...

    def parse(self, kind: Any, /, *, lenient: bool = False) -> Any:
        """Return the arguments as a value of this type (any that msgspec decodes, or Pydantic).

        With `lenient` they may also be in a code fence, or JSON text that was encoded twice.
        Raises ToolArgumentsError if they are not JSON or not valid for the type; its
        `tool_message` can be sent back to the model.
        """
        # Some models write {} for no arguments, others nothing.
        text = self.function.arguments
        try:
            decode = decode_forgivingly if lenient else decode_as
            return decode(kind, text if text.strip() else "{}")
        except ValueError as cause:
            name = self.function.name or name_of(kind)
            raise ToolArgumentsError(
                f"the arguments for {name} are not valid: {cause}", call=self
            ) from cause

    def call(self, tool: CallsTool[R], /) -> R:
        """Call the tool's function with these arguments and return its result.

        An async function returns an awaitable: `await call.call(tool)`. Raises
        ToolArgumentsError as `parse` does, and ValueError if the call names another tool.
        """
        return tool.call(self)


class FunctionDelta(Part, gc=False):
    """A piece of a function's name or arguments."""

    name: str | None = None
    """The name, or a piece of it."""
    arguments: str | None = None
    """The next piece of the arguments' JSON text."""


class ToolCallDelta(Part, gc=False):
    """A piece of a tool call."""

    index: int | None = None
    """Position of the call among the choice's calls; None if the server does not say."""
    id: str | None = None
    """Id of the call; most servers send it with the first piece only."""
    type: str | None = None
    """Kind of the call; most servers send it with the first piece only."""
    function: FunctionDelta | None = None
    """What this piece adds to the function."""

    @property
    def custom(self) -> CustomCall | None:
        """What this piece adds to the call of a custom tool; None if nothing."""
        return part_of(CustomCall, self.extra, "custom")
