"""Write the blocking twin, `penstock.blocking`, and tests of it from the async source.

    python -m tests.tools.generate_blocking            # write what has changed
    python -m tests.tools.generate_blocking --check    # fail if anything would change

A signature, a docstring or a method that changes in the async source changes in the twin when
this has run. What a twin does is one of four things, the `kind` of its class:

- "facade": each method runs its async original on the event loop's thread, and wraps a stream
  that it returns. How that is done stands in the hand-written `blocking/_loop`.
- "stream": the same for a stream, whose base class there knows how to read one.
- "own": signatures and docstrings alone; each body is written by hand.
- "copy": the async text itself, without `async` and `await`. Tests are copied in this way, too;
  those that need an event loop (virtual time, cancellation) are left out.

Two markers keep in the written file what differs in meaning, such as Ctrl-C in place of a
cancellation: `# own docstring` before a docstring, `# own body` before the rest of a function.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "penstock"

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


@dataclass(frozen=True)
class Twin:
    """One class, or one function, of a twin module."""

    original: str
    name: str
    kind: str = "facade"
    bases: str = ""
    drives: str = ""
    """The type of the async original, where the methods' types depend on it."""
    without: frozenset[str] = frozenset()
    """Members that have no counterpart, or a hand-written one in the base class."""


@dataclass(frozen=True)
class Module:
    """One file to write."""

    target: str
    sources: tuple[str, ...]
    twins: tuple[Twin, ...] = ()
    left_out: frozenset[str] = frozenset()
    """Tests that are not copied, beyond those that need an event loop."""


def names(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


BY_BASE = names(
    "__init__ __aenter__ __aexit__ __aiter__ __anext__ __del__ __repr__ aclose"
    " read_batch first_token receive_nowait fill abandon"
)
FEED = names("__aiter__ read_batch")
NOT_DRIVEN = names("__del__ __reduce__ __repr__")
MODULES = (
    Module(
        "src/penstock/blocking/resources.py",
        ("src/penstock/_client/resources.py",),
        (
            Twin("Completions", "Completions", bases="Resource"),
            Twin("Chat", "Chat", bases="Resource"),
            Twin("TextCompletions", "TextCompletions", bases="Resource"),
            Twin("Models", "Models", bases="Resource"),
        ),
    ),
    Module(
        "src/penstock/blocking/client.py",
        ("src/penstock/_client/client.py",),
        (
            Twin(
                "AsyncClient",
                "Client",
                bases="ClientDriver",
                # `close` is the twin of `aclose`.
                without=names("__del__ __reduce__ __repr__ close endpoint"),
            ),
        ),
    ),
    Module(
        "src/penstock/blocking/spread.py",
        ("src/penstock/_client/spread.py",),
        (
            Twin(
                "Spread",
                "Spread",
                bases="Driver[AsyncSpread]",
                without=names("__reduce__ __repr__ close endpoint"),
            ),
        ),
    ),
    Module(
        "src/penstock/blocking/stream.py",
        tuple(
            f"src/penstock/_call/{name}.py"
            for name in ("base_stream", "stream", "text_stream", "event_stream", "response_stream")
        ),
        (
            Twin(
                "BaseStream",
                "BaseStream",
                "stream",
                "Reading[T], Generic[T]",
                without=BY_BASE,
            ),
            Twin(
                "CompletionStream",
                "Stream",
                "stream",
                "BaseStream[ChatCompletionChunk], Generic[C_co]",
                without=BY_BASE,
            ),
            Twin(
                "TextCompletionStream",
                "TextCompletionStream",
                "stream",
                "BaseStream[TextCompletion]",
                without=BY_BASE,
            ),
            Twin("EventStream", "EventStream", "stream", "BaseStream[Event]", without=BY_BASE),
            Twin(
                "ResponseStream",
                "ResponseStream",
                "stream",
                "BaseStream[bytes]",
                without=BY_BASE,
            ),
        ),
    ),
    Module(
        "src/penstock/blocking/views.py",
        ("src/penstock/_call/views.py",),
        (
            Twin("TextView", "TextView", "copy"),
            Twin("_Announcing", "_Announcing", "copy"),
            Twin("ToolCallView", "ToolCallView", "copy"),
        ),
    ),
    Module(
        "src/penstock/blocking/feeds.py",
        (
            "src/penstock/_many/fan_out.py",
            "src/penstock/_many/chunks.py",
            "src/penstock/_many/race.py",
        ),
        (
            Twin("FanOut", "ResultIterator", "own", "Feeding, Generic[T, R]", "FanOut[T, R]", FEED),
            Twin("fan_out", "fan_out", "own"),
            Twin("ChunkFeed", "ChunkIterator", "own", "FeedingInBatches", "ChunkFeed", FEED),
            Twin("fan_out_chunks", "fan_out_chunks", "own"),
            Twin("Race", "RaceBlock", "own", "Entered", "Race", names("__aexit__")),
            Twin("race", "race", "own"),
        ),
    ),
    Module(
        "tests/blocking/generated/test_views.py",
        ("tests/call/test_views.py",),
    ),
    Module(
        "tests/blocking/generated/test_resources.py",
        ("tests/client/test_resources.py",),
        left_out=names(
            # They make coroutines, and await them later.
            "test_an_error_with_a_success_status test_a_success_that_is_no_completion"
            # The warning is given on the event loop's thread, which has no line of the caller.
            " test_a_slip_warns_at_the_callers_own_line"
            # The back-off is shortened for the tests of this folder.
            " test_numbers_of_a_request_that_was_sent_again"
        ),
    ),
    Module(
        "tests/blocking/generated/test_stream.py",
        ("tests/call/test_stream.py",),
    ),
    Module(
        "tests/blocking/generated/test_race.py",
        ("tests/many/test_race.py",),
        # Its key is asked in a worker thread, whose work takes no virtual time.
        left_out=names("test_what_is_no_error_leaves_the_race_bare"),
    ),
    Module(
        "tests/blocking/generated/test_chunks.py",
        ("tests/many/test_chunks.py",),
        # Events cross over in batches, so the consumer's own count is behind.
        left_out=names("test_pulled_stays_bounded_while_refused_requests_sleep_without_a_slot"),
    ),
)

RENAMED = {
    "AsyncClient": "Client",
    "AsyncIterator": "Iterator",
    "ChunkFeed": "ChunkIterator",
    "CompletionStream": "Stream",
    "FanOut": "ResultIterator",
    "HasCompletions": "Client | Spread",
    "Race": "RaceBlock",
    "Source": "Iterable",
    "StopAsyncIteration": "StopIteration",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
    "aiter": "iter",
    "anext": "next",
}
WORD = re.compile(r"\b\w+\b")
PLAIN = (
    (re.compile(r"\bAwaitable\[([^\[\]]+)\]"), r"\1"),
    (re.compile(r"\ban async (context manager)\b"), r"a \1"),
    (re.compile(r"\basync (with|for|context|iterator)\b"), r"\1"),
)
ANYWHERE = {
    name: f"from {module} import {name}"
    for name, module in {
        "HealthCheck": "hypothesis",
        "Iterable": "collections.abc",
        "Iterator": "collections.abc",
        "client_on": "tests.support.blocking",
        "settings": "hypothesis",
    }.items()
}
GIVEN = "@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])\n"
STREAMS = ("Stream", "TextCompletionStream", "EventStream", "ResponseStream")
"""Twins that a method may return: they wrap what the original returns."""
ON_THE_LOOP = names("partial partial_value take_tool_call")
"""Members of a stream that change it, and so must not meet a read."""
HEADER = """\
# Generated by tests/tools/generate_blocking.py. Do not edit, except for what follows
# "own docstring" or "own body".
# Source: {}
"""
DOCSTRING, BODY = "# own docstring", "# own body"
AWAY = names(
    "anyio trio asyncio anyio_backend_name receive_nowait fill read_batch first_token sender"
)


def renamed(text: str) -> str:
    """Return a text of the async source in the words of the twin."""
    for pattern, replacement in PLAIN:
        text = pattern.sub(replacement, text)
    text = WORD.sub(lambda word: RENAMED.get(word[0], word[0]), text)
    return text.replace("penstock.Stream)", "penstock.blocking.Stream)")


def without_async(text: str) -> str:
    """Return code without its `async` and `await`, and in the words of the twin."""
    lines = text.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for token, after in zip(reversed(tokens[:-1]), reversed(tokens[1:]), strict=True):
        if token.type == tokenize.NAME and token.string in ("async", "await"):
            row, column = token.start
            end = after.start[1] if after.start[0] == row else token.end[1]
            lines[row - 1] = lines[row - 1][:column] + lines[row - 1][end:]
    return renamed("".join(lines))


@dataclass
class File:
    """A module's text, and where things are in it."""

    path: Path
    text: str = field(init=False)
    tree: ast.Module = field(init=False)
    lines: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        self.tree = ast.parse(self.text)
        self.lines = self.text.splitlines(keepends=True)

    def span(self, first: int, last: int) -> str:
        """Return the lines from `first` to `last`, both included, counted from 1."""
        return "".join(self.lines[first - 1 : last])

    def whole(self, node: ast.stmt) -> str:
        """Return a statement with its decorators."""
        decorators = node.decorator_list if isinstance(node, Definition) else []
        first = min([node.lineno, *(each.lineno for each in decorators)])
        return self.span(first, node.end_lineno or first)

    def head(self, node: Definition) -> str:
        """Return what stands before the body, decorators included."""
        first = node.body[0]
        start = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        before = self.lines[first.lineno - 1][: first.col_offset].rstrip()
        if before:  # the body follows in the same line
            return self.span(start, first.lineno - 1) + before + "\n"
        lines = self.lines[start - 1 : first.lineno - 1]
        while lines[-1].strip().startswith("#"):
            lines.pop()
        return "".join(lines)

    def docstring(self, node: Definition | ast.Module) -> str:
        """Return the docstring as it stands there, "" if there is none."""
        if ast.get_docstring(node, clean=False) is None:
            return ""
        return self.span(node.body[0].lineno, node.body[0].end_lineno or 0)

    def own(self, node: Definition) -> tuple[str, str]:
        """Return the docstring and the body that are marked as the twin's own."""
        docstring = body = ""
        text = self.docstring(node)
        if text and self.lines[node.body[0].lineno - 2].strip() == DOCSTRING:
            docstring = self.span(node.body[0].lineno - 1, node.body[0].end_lineno or 0)
        start = (node.body[0].end_lineno or 0) if text else node.body[0].lineno - 2
        if isinstance(node, Function) and self.span(start + 1, start + 1).strip() == BODY:
            body = self.span(start + 1, node.end_lineno or 0)
        return docstring, body

    def definitions(self) -> Iterator[tuple[str, Definition]]:
        """Yield classes, functions and methods by qualified name; overloads are left out."""
        for node in self.tree.body:
            if isinstance(node, Definition):
                if not is_overload(node):
                    yield node.name, node
                if isinstance(node, ast.ClassDef):
                    for member in node.body:
                        if isinstance(member, Function) and not is_overload(member):
                            yield f"{node.name}.{member.name}", member

    def imports(self) -> dict[str, tuple[str, bool]]:
        """Return the statement that imports each name, and whether for type checkers only."""
        found: dict[str, tuple[str, bool]] = {}
        for node in self.tree.body:
            if assigned(node):
                continue
            checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            inner = node.body if checking and isinstance(node, ast.If) else [node]
            for each in inner:
                if isinstance(each, ast.Import):
                    for alias in each.names:
                        name = (alias.asname or alias.name).split(".")[0]
                        found[name] = (f"import {ast.unparse(alias)}", checking)
                elif isinstance(each, ast.ImportFrom):
                    origin = self._origin(each)
                    for alias in each.names:
                        statement = f"from {origin} import {ast.unparse(alias)}"
                        found[alias.asname or alias.name] = (statement, checking)
        return found

    def _origin(self, node: ast.ImportFrom) -> str:
        module, room = node.module or "", self.path.parent
        if node.level == 1 and room.parent == SOURCE and room.name != "blocking":
            return f"..{room.name}.{module}"
        return "." * node.level + module


def is_overload(node: Definition) -> bool:
    """Whether it is one of the overloads of a function."""
    return any(ast.unparse(each) == "overload" for each in node.decorator_list)


def arguments(node: Function) -> str:
    """Return the arguments with which a function calls another one of its signature."""
    given = node.args
    parts = [each.arg for each in (*given.posonlyargs, *given.args) if each.arg != "self"]
    parts += [f"*{given.vararg.arg}"] if given.vararg else []
    parts += [f"{each.arg}={each.arg}" for each in given.kwonlyargs]
    parts += [f"**{given.kwarg.arg}"] if given.kwarg else []
    return ", ".join(parts)


class Writer:
    """Writes one module."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.sources = [File(ROOT / source) for source in module.sources]
        self.old = File(ROOT / module.target)
        self.kept = {name: self.old.own(node) for name, node in self.old.definitions()}
        self.is_test = module.target.startswith("tests")

    def text(self) -> str:
        """Return the whole text, not yet formatted."""
        body = "\n\n".join(self._tests() if self.is_test else self._twins())
        if not self.is_test:
            body = "\n".join([*self._assignments(body), body])
        origin = ",\n#   ".join(path.removeprefix("src/penstock/") for path in self.module.sources)
        parts = [
            HEADER.format(origin),
            self.old.docstring(self.old.tree) or renamed(self._first_docstring()),
            "from __future__ import annotations\n",
            *self._imports(body),
        ]
        if not self.is_test:
            public = [twin.name for twin in self.module.twins if not twin.name.startswith("_")]
            parts.append(f"__all__ = {sorted(public)}\n")
        return "\n".join([*parts, body])

    def _first_docstring(self) -> str:
        return self.sources[0].docstring(self.sources[0].tree)

    # --- what the twin is made of ---

    def _twins(self) -> Iterator[str]:
        for twin in self.module.twins:
            for source in self.sources:
                for node in source.tree.body:
                    if isinstance(node, Definition) and node.name == twin.original:
                        if isinstance(node, ast.ClassDef):
                            yield self._class(source, node, twin)
                        else:
                            yield self._function(source, node, twin, "")

    def _class(self, source: File, node: ast.ClassDef, twin: Twin) -> str:
        if twin.kind == "copy":
            return without_async(source.whole(node))
        bases = f"({twin.bases})" if twin.bases else ""
        decorators = [f"@{ast.unparse(each)}\n" for each in node.decorator_list]
        parts = ["".join(decorators) + f"class {twin.name}{bases}:\n"]
        docstring, _ = self.kept.get(twin.name, ("", ""))
        parts[0] += docstring or renamed(source.docstring(node))
        attributes = list(self._attributes(source, node))
        slots = any(
            isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "__slots__"
            for each in node.body
        )
        if slots:
            parts.append(f"    __slots__ = {tuple(name for name, _ in attributes)!r}\n")
        if twin.drives:
            parts.append(f"    _async: {twin.drives}\n")
        for member in node.body:
            if not isinstance(member, Function) or member.name in twin.without:
                continue
            public = member.name.startswith("__") or not member.name.startswith("_")
            if public and (member.name != "__init__" or "Driver" in twin.bases):
                parts.append(self._function(source, member, twin, f"{twin.name}."))
            if member.name == "__init__" and attributes:
                made = "".join(text for _, text in attributes)
                parts.append(f"    def _take_resources(self) -> None:\n{made}")
        return "\n".join(parts)

    def _attributes(self, source: File, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
        """Yield the resources among the attributes that the constructor makes."""
        known = {twin.name for module in MODULES for twin in module.twins}
        for member in node.body:
            if isinstance(member, Function) and member.name in ("__init__", "_set"):
                for each, after in pairwise([*member.body, ast.Pass()]):
                    if (
                        isinstance(each, ast.AnnAssign)
                        and isinstance(each.target, ast.Attribute)
                        and (kind := ast.unparse(each.annotation)) in known
                    ):
                        name = each.target.attr
                        made = f"{kind}(self._loop, self._async.{name})"
                        text = f"        self.{name}: {kind} = {made}\n"
                        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                            text += renamed(source.whole(after))
                        yield name, text

    def _function(self, source: File, node: Function, twin: Twin, prefix: str) -> str:
        name = RENAMED.get(node.name, node.name)
        head = renamed(re.sub(r"\basync def\b", "def", source.head(node)))
        if is_overload(node):
            return head.rstrip() + " ...\n"
        docstring, body = self.kept.get(prefix + name, ("", ""))
        docstring = docstring or renamed(source.docstring(node))
        return head + docstring + (body or self._body(node, twin))

    def _body(self, node: Function, twin: Twin) -> str:
        space = " " * 8
        returned = renamed(ast.unparse(node.returns)) if node.returns else "Any"
        if node.name == "__init__":
            return f"{space}self._drive(Driven, {arguments(node)})\n"
        if twin.kind == "stream" and returned.startswith("Iterator["):  # a view of it
            return f"{space}{ast.unparse(node.body[-1])}\n"
        value = self._value(node, twin)
        stream = returned.split("[")[0]
        if stream in STREAMS and not isinstance(node, ast.AsyncFunctionDef):
            return f"{space}return {stream}(self._loop, {value})\n"
        if returned == "None":
            return f"{space}{value}\n"
        return f"{space}answer: {returned} = {value}\n{space}return answer\n"

    def _value(self, node: Function, twin: Twin) -> str:
        """Return the expression that asks the async original."""
        waits = isinstance(node, ast.AsyncFunctionDef)
        value = f"self._async.{node.name}"
        if not any(ast.unparse(each) == "property" for each in node.decorator_list):
            value += f"({arguments(node)})"
        if twin.kind == "stream" and node.name == "collect":
            return "self._collect()"
        if twin.kind == "stream" and waits:
            return f"self._wait_for(lambda: {value})"
        if twin.kind == "stream" and node.name in ON_THE_LOOP:
            return f"self._look(lambda: {value})"
        return f"self._run(lambda: {value})" if waits else value

    # --- tests ---

    def _tests(self) -> Iterator[str]:
        for source in self.sources:
            wanted = self._wanted(source)
            for node in source.tree.body:
                defined = {node.name} if isinstance(node, Definition) else assigned(node)
                if defined & wanted:
                    text = without_async(source.whole(node))
                    # The folder's fixture only looks at threads: it needs no fresh start.
                    yield GIVEN + text if text.startswith("@given") else text

    def _wanted(self, source: File) -> set[str]:
        """Return the tests that can be copied, and the helpers that they use."""
        uses: dict[str, set[str]] = {}
        for node in source.tree.body:
            defined = {node.name} if isinstance(node, Definition) else assigned(node)
            uses |= dict.fromkeys(defined, used_names(node))

        def closure(name: str) -> set[str]:
            found, waiting = set[str](), [name]
            while waiting:
                if (each := waiting.pop()) not in found:
                    found.add(each)
                    waiting += uses.get(each, ())
            return found

        tests = [name for name in uses if name.startswith("test_")]
        closures = [closure(test) for test in tests if test not in self.module.left_out]
        return set().union(*(found for found in closures if not found & AWAY))

    # --- what stands above ---

    def _assignments(self, body: str) -> list[str]:
        """Return the module's own values that are used below: type variables, constants."""
        used = used_names(ast.parse(body))
        parts: list[str] = []
        for source in self.sources:
            for node in reversed(source.tree.body):
                targets = assigned(node)
                if targets & used:
                    text = renamed(source.whole(node))
                    if text not in parts:
                        parts.insert(0, text)
                        used |= used_names(ast.parse(text))
        return parts

    def _imports(self, body: str) -> list[str]:
        tree = ast.parse(body)
        used = used_names(tree, attributes=False)
        used -= {node.name for node in tree.body if isinstance(node, Definition)}
        used -= set().union(*(assigned(node) for node in tree.body))
        table = self.old.imports()
        for source in self.sources:
            table.update(source.imports())
            origin = f"from ..{source.path.parent.name}.{source.path.stem} import"
            for name, _ in source.definitions():
                table[name] = (f"{origin} {name}", False)
                table[f"Async{name}"] = (f"{origin} {name} as Async{name}", False)
        table.update({name: (statement, False) for name, statement in ANYWHERE.items()})
        package = "penstock.blocking." if self.is_test else "."
        for module in MODULES:
            for twin in module.twins:
                statement = f"from {package}{Path(module.target).stem} import {twin.name}"
                table[twin.name] = (statement, table.get(twin.original, ("", False))[1])
        # The twin's code may run what only an annotation names in the source.
        runs = runtime_names(tree)
        wanted = {name: table[name] for name in used if name in table}
        plain = [line for name, (line, only) in wanted.items() if name in runs or not only]
        checking = [line for name, (line, only) in wanted.items() if only and name not in runs]
        if checking and "from typing import TYPE_CHECKING" not in plain:
            plain.append("from typing import TYPE_CHECKING")
        lines = [f"{line}\n" for line in sorted(set(plain))]
        if checking:
            block = "".join(f"    {line}\n" for line in sorted(set(checking)))
            lines.append(f"if TYPE_CHECKING:\n{block}")
        return lines


def runtime_names(tree: ast.AST) -> set[str]:
    """Return the names that are looked up when the code runs, so without its annotations."""
    found: set[str] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            found.add(node.id)
        waiting += [
            child
            for name, value in ast.iter_fields(node)
            if name not in ("annotation", "returns")
            for child in (value if isinstance(value, list) else [value])
            if isinstance(child, ast.AST)
        ]
    return found


def used_names(tree: ast.AST, *, attributes: bool = True) -> set[str]:
    """Return the names that some code uses, also in quoted annotations."""
    found: set[str] = set()
    waiting: list[tuple[ast.AST, frozenset[str]]] = [(tree, frozenset())]
    while waiting:
        node, bound = waiting.pop()
        if isinstance(node, Function):
            arguments = [each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)]
            bound = bound.union(arguments)
            found.update(arguments if attributes else ())
        elif isinstance(node, ast.Name):
            found |= {node.id} - bound
        elif isinstance(node, ast.Attribute) and attributes:
            found.add(node.attr)
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            found |= set(WORD.findall(str(node.slice.value)))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "cast":
            found |= set(WORD.findall(ast.unparse(node.args[0])))
        waiting += [(each, bound) for each in ast.iter_child_nodes(node)]
    return found


def assigned(node: ast.stmt) -> set[str]:
    """Return the names to which a statement at the top of a module gives a value."""
    if isinstance(node, ast.Assign):
        return {each.id for each in node.targets if isinstance(each, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    if isinstance(node, ast.If):
        inner = (*node.body, *node.orelse)
        targets = set[str]().union(*(assigned(each) for each in inner))
        imports = [each for each in inner if isinstance(each, ast.ImportFrom)]
        return targets and targets.union(*({each.name for each in one.names} for one in imports))
    return set()


def formatted(text: str, path: Path) -> str:
    """Return the text as ruff writes it."""
    commands = ("check --fix --quiet --select=I,UP037", "format --quiet")
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command.split(), f"--stdin-filename={path}", "-"],
            input=text,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        if done.returncode > 1 or not done.stdout:
            raise SystemExit(f"{path}: {done.stderr}")
        text = done.stdout
    return text


def main() -> None:
    """Write every module, or say which ones are out of date."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one differs")
    check = parser.parse_args().check
    outdated = []
    for module in MODULES:
        writer = Writer(module)
        text = formatted(writer.text(), ROOT / module.target)
        if text != writer.old.text:
            outdated.append(module.target)
            if not check:
                writer.old.path.write_text(text, encoding="utf-8")
                print("wrote", module.target)
    if check and outdated:
        raise SystemExit(f"out of date: {', '.join(outdated)}. Run: nox --session blocking")


if __name__ == "__main__":
    main()
