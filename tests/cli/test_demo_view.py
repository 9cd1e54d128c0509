"""What the demo shows: panels in a terminal, lines elsewhere, and the table of figures."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from penstock.cli.demo_figures import Answer, Figures
from penstock.cli.demo_view import print_figures, view
from penstock.observing import Gaps
from penstock.observing.figures import NOTHING
from penstock.types import Usage


def console(*, terminal: bool, width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=30)


def written(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_lines_show_each_text_as_it_comes() -> None:
    screen = console(terminal=False)
    answers = [Answer(0, "a"), Answer(1, "b")]
    with view(screen, Figures("m", "trio", answers)) as show:
        show(answers[0], "one\ntw")
        show(answers[1], "[bold]word " * 10)
        show(answers[0], "o")
        for answer in answers:
            answer.ended = True
            show(answer, "")
    lines = written(screen).splitlines()
    assert lines[0] == "[0] one"
    assert lines[-2] == "[0] two"
    assert max(map(len, lines)) <= 80
    rest = " ".join(line[4:] for line in lines if line.startswith("[1]"))
    assert rest.split() == ["[bold]word"] * 10


@pytest.mark.parametrize("width", [20, 80, 200])
@pytest.mark.parametrize("streams", [1, 6, 40])
def test_panels_show_the_end_of_each_text(width: int, streams: int) -> None:
    screen = console(terminal=True, width=width)
    answers = [Answer(n, f"prompt {n}", text="word " * 300 + "end") for n in range(streams)]
    answers[-1].error = "[red] failed"
    with view(screen, Figures("m", "trio", answers)):
        pass
    assert "end" in written(screen) or streams == 1
    assert streams > 6 or "[red] failed" in written(screen)


def test_the_table_has_a_row_for_each_stream_and_the_totals() -> None:
    screen = console(terminal=False)
    usage = Usage(prompt_tokens=10, completion_tokens=21, total_tokens=31)
    gaps = Gaps(count=4, mean=0.5, p50=0.5, p99=0.5, max=0.5)
    statistics = msgspec.structs.replace(NOTHING, first_token=0.5, gaps=gaps)
    answers = [
        Answer(0, "a", "x", "stop", usage, statistics, ended=True),
        Answer(1, "b", error="gone", ended=True),
    ]
    print_figures(screen, Figures("m", "trio", answers, started=100.0, ended=103.0))
    out = written(screen)
    assert "m on trio" in out
    assert "0.50 s" in out
    assert " 10.0 " in out  # 20 tokens in the 2 seconds after the first
    assert out.count("10 + 21 = 31") == 2
    assert "failed" in out
    assert " 7.0 " in out  # 21 tokens in 3 seconds
    assert "3.00 s" in out
