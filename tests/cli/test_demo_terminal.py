"""The demo in a terminal: what is on its screen, while it runs and afterwards."""

from __future__ import annotations

import codecs
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from penstock.testing import serve_in_thread

from .answers import endless, hello, server_with

if sys.platform == "win32":
    pytest.skip("Windows has no pseudo-terminals", allow_module_level=True)

import fcntl
import pty
import termios

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HOME = "\x1b[H"
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """A pseudo-terminal with a command in it."""

    def __init__(self, command: list[str], columns: int, lines: int) -> None:
        self._master, slave = pty.openpty()
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self.written = ""
        self.resize(columns, lines)
        environment = os.environ | {"TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self) -> bool:
        """Add what comes next; False at the end."""
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux says so when the command has ended
            return False
        self.written += self._decode(data)
        return bool(data)

    def read_until(self, pattern: str, start: int = 0) -> None:
        """Read until the pattern is in what was written from `start` on."""
        deadline = time.monotonic() + 60
        while not re.search(pattern, self.written[start:], re.DOTALL):
            assert time.monotonic() < deadline, self.written[-2000:]
            assert self.read(), self.written[-2000:]

    def frames(self, start: int = 0) -> list[list[str]]:
        """The whole screens that were written, without the last one, which may be a part."""
        screens = self.written[start:].split(LEAVE)[0].split(HOME)[1:-1]
        return [ESCAPE.sub("", screen).replace("\r", "").split("\n") for screen in screens]

    def end(self) -> str:
        """What is written until the end, after the screen of the streams was left."""
        while self.read():
            pass
        self.process.wait(20)
        return self.written.rpartition(LEAVE)[2]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


@contextmanager
def demo(base_url: str, streams: int, columns: int, lines: int) -> Iterator[Terminal]:
    command = [sys.executable, "-m", "penstock", "demo", "--base-url", base_url, "--streams"]
    terminal = Terminal([*command, str(streams)], columns, lines)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("columns", "lines", "streams"), [(40, 24, 6), (40, 24, 30), (80, 24, 1), (160, 12, 30)]
)
def test_each_screen_fits_and_shows_every_number(columns: int, lines: int, streams: int) -> None:
    with (
        serve_in_thread(server_with(endless())) as server,
        demo(server.base_url, streams, columns, lines) as terminal,
    ):
        terminal.read_until(rf"more.*({re.escape(HOME)}.*){{2}}")
        screen = terminal.frames()[-1]
    assert len(screen) <= lines
    assert max(map(len, screen)) <= columns
    shown = {int(number) for number in re.findall(r"(?:^|[│╭ ] ?)(\d+) ", "\n".join(screen), re.M)}
    assert set(range(streams)) <= shown


def test_a_smaller_terminal_gets_a_smaller_screen() -> None:
    with (
        serve_in_thread(server_with(endless())) as server,
        demo(server.base_url, 6, 120, 40) as terminal,
    ):
        terminal.read_until(f"more.*{re.escape(HOME)}")
        terminal.resize(40, 20)
        start = len(terminal.written)
        terminal.read_until(f"({re.escape(HOME)}.*){{4}}", start)
        screen = terminal.frames(start)[-1]
    assert len(screen) <= 20
    assert max(map(len, screen)) <= 40


def test_ctrl_c_gives_the_screen_back() -> None:
    with (
        serve_in_thread(server_with(endless())) as server,
        demo(server.base_url, 6, 80, 24) as terminal,
    ):
        terminal.read_until("more")
        terminal.process.send_signal(signal.SIGINT)
        rest = terminal.end()
        assert terminal.process.returncode == 130
    assert terminal.written.count(ENTER) == terminal.written.count(LEAVE) == 1
    assert terminal.written.rfind(HIDE_CURSOR) < terminal.written.rfind(SHOW_CURSOR)
    assert ESCAPE.sub("", rest).split() == ["interrupted:", "every", "stream", "is", "closed"]


@pytest.mark.parametrize("columns", [40, 80])
def test_the_figures_are_legible_after_the_end(columns: int) -> None:
    with (
        serve_in_thread(server_with(hello())) as server,
        demo(server.base_url, 3, columns, 24) as terminal,
    ):
        rest = terminal.end()
        assert terminal.process.returncode == 0
    lines = ESCAPE.sub("", rest).replace("\r", "").split("\n")
    assert max(map(len, lines)) <= columns
    rows = [line.split() for line in lines if re.search(r"\d\.\d\d s", line)]
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]  # the last one sums up
    assert all("stop" in row for row in rows[:3])
    assert any("Hello there!" in line for line in lines)
