"""How the demo looks: a screen of its own in a terminal, plain lines anywhere else."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.console import ConsoleOptions, RenderableType, RenderResult

    from .demo_figures import Answer, Figures

__all__ = ["DemoConsole", "print_figures", "view"]

PANEL_WIDTH = 38
PANEL_HEIGHT = 9
LOWEST_PANEL = 3
PLAIN_LINE = 76
NUMBERS_WIDTH = 60  # of the table, without its prompts
WIDE = 70  # a terminal that has room for the prompts


class DemoConsole(Console):
    """A console that raises BrokenPipeError, where rich would exit in the middle of the demo."""

    def on_broken_pipe(self) -> None:
        """Raise the error that is being handled."""
        raise  # rich calls this in an `except` clause


@contextmanager
def view(console: Console, figures: Figures) -> Generator[Callable[[Answer, str], None]]:
    """Show the answers while the block runs; call what it gives with an answer and its new text."""
    if console.is_terminal and not console.is_dumb_terminal:
        # A screen of its own can be resized, and leaves nothing behind.
        with Live(_Screen(figures), console=console, screen=True, refresh_per_second=12):
            yield _nothing_more_to_do
        console.print(_Screen(figures))
    else:
        yield _PlainLines(console).show


def _nothing_more_to_do(_answer: Answer, _text: str) -> None:
    """The panels read the answers themselves, twelve times a second."""


class _Screen:
    """The last lines of each answer: a panel for each, or a line where the screen is small."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        answers = self._figures.answers
        columns = max(1, min(len(answers), options.max_width // PANEL_WIDTH))
        height = min(PANEL_HEIGHT, (console.height - 1) // -(-len(answers) // columns))
        if height >= LOWEST_PANEL:
            width = options.max_width // columns
            cells: list[RenderableType] = [
                _panel(console, answer, width - 4, height) for answer in answers
            ]
        else:
            columns = -(-len(answers) // max(1, console.height - 1))
            width = options.max_width // columns
            cells = [_line(console, answer, width - 1) for answer in answers]
        grid = Table.grid(expand=True)
        for _ in range(columns):
            grid.add_column(ratio=1)
        for start in range(0, len(cells), columns):
            grid.add_row(*cells[start : start + columns])
        yield grid


def _panel(console: Console, answer: Answer, width: int, height: int) -> Panel:
    body = Text(answer.text if answer.error is None else answer.error)
    lines = body.wrap(console, max(width, 8))[-(height - 2) :]
    return Panel(
        Text("\n").join(lines),
        title=Text(f"{answer.index} {answer.prompt}", overflow="ellipsis", no_wrap=True),
        title_align="left",
        border_style=_style(answer),
        height=height,
    )


def _line(console: Console, answer: Answer, width: int) -> Text:
    number = f"{answer.index} "
    text = Text(answer.error or answer.text.strip() or answer.prompt)
    last = text.wrap(console, max(8, width - len(number)))[-1]
    return Text(number, style=_style(answer), no_wrap=True, overflow="crop").append_text(last)


def _style(answer: Answer) -> str:
    if answer.error is not None:
        return "red"
    return "green" if answer.ended else "cyan"


class _PlainLines:
    """Text as it comes, a line at a time, each line with its stream's number."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._open: dict[int, str] = {}

    def show(self, answer: Answer, text: str) -> None:
        rest = self._open.get(answer.index, "") + text
        while len(rest) > PLAIN_LINE or "\n" in rest:
            line, rest = _cut(rest)
            self._print(answer, line)
        if answer.ended and rest:
            self._print(answer, rest)
            rest = ""
        if answer.error is not None:
            self._print(answer, answer.error)
        self._open[answer.index] = rest

    def _print(self, answer: Answer, line: str) -> None:
        if line.strip():
            self._console.out(f"[{answer.index}] {line}", highlight=False)


def _cut(text: str) -> tuple[str, str]:
    """The first line of the text, not longer than a line may be, and what follows it."""
    line, newline, rest = text.partition("\n")
    if len(line) <= PLAIN_LINE and newline:
        return line, rest
    at = text.rfind(" ", 1, PLAIN_LINE + 1)
    if at < 1:
        return text[:PLAIN_LINE], text[PLAIN_LINE:]
    return text[:at], text[at + 1 :]


def print_figures(console: Console, figures: Figures) -> None:
    """The table of one run: what each stream took, and the totals."""
    answers = figures.answers
    tokens = sum(answer.tokens or 0 for answer in answers)
    prompt_tokens = sum(answer.usage.prompt_tokens or 0 for answer in answers if answer.usage)
    seconds = figures.seconds
    firsts = [answer.first_token for answer in answers if answer.first_token is not None]
    wide = console.width >= WIDE
    table = Table(
        title=f"{figures.model} on {figures.backend}",
        caption="usage: tokens of the prompt + of the answer = total" if wide else None,
        box=box.SIMPLE_HEAD,
        show_footer=True,
        padding=(0, 1, 0, 1 if wide else 0),
    )
    table.add_column("", f"{len(answers)}", justify="right")
    if wide:
        width = max(8, min(40, console.width - NUMBERS_WIDTH))
        table.add_column("prompt", "together", width=width, no_wrap=True, overflow="ellipsis")
    first = _seconds(min(firsts, default=None))
    table.add_column("first token", first, justify="right", no_wrap=True)
    pace = f"{tokens / seconds:.1f}" if seconds else ""
    table.add_column("tokens/s", pace, justify="right", no_wrap=True)
    table.add_column("finish", f"{seconds:.2f} s", no_wrap=True)
    if wide:
        table.add_column("usage", _sum(prompt_tokens, tokens), justify="right", no_wrap=True)
    for answer in answers:
        its_pace = answer.tokens_per_second
        usage = answer.usage
        row = [
            f"{answer.index}",
            _seconds(answer.first_token),
            "" if its_pace is None else f"{its_pace:.1f}",
            "failed" if answer.error else answer.finish_reason or "",
        ]
        if wide:
            used = usage and _sum(usage.prompt_tokens or 0, usage.completion_tokens or 0)
            row = [row[0], answer.prompt, *row[1:], used or ""]
        table.add_row(*row)
    console.print(table)


def _seconds(time: float | None) -> str:
    return "" if time is None else f"{time:.2f} s"


def _sum(prompt: int, answer: int) -> str:
    return f"{prompt} + {answer} = {prompt + answer}"
