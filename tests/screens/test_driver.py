"""The changed-cells driver on a real terminal, beside Textual's own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pyte
import pytest

APP = """
import sys
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.widgets import DataTable, Footer, Static
from elektronn_tui.screens.driver import ChangedCellsDriver
from elektronn_tui.screens.widgets import LogView, Plot, Series

class Line:
    level, time = "info", 1.7e9
    def __init__(self, index):
        self.index = index
        kinds = "loss 0.%03d" % index, "界面 saved", "e\\u0301 👩\\u200d🔬 x", "⚠\\ufe0f nan"
        self.text = f"step {index} " + kinds[index % 4]

class Small(App):
    CSS = "LogView { height: 1fr; border: round green; } Plot { height: 1fr; } #wide { height: 1; }"
    BINDINGS = [("n", "next", "Next"), ("r", "redraw", "Redraw"), ("q", "quit", "Quit")]
    ENABLE_COMMAND_PALETTE = False
    step = 0
    def compose(self):
        yield Static("start", id="wide")
        yield LogView()
        yield Plot("loss")
        yield DataTable()
        yield Footer()
    def on_mount(self):
        self.query_one(DataTable).add_columns("name", "value")
        self.query_one(DataTable).add_row("lr", "[red]0.1[/]")
        self.action_next()
    def action_next(self):
        for _ in range(3):
            self.step += 1
            self.query_one(LogView).push([Line(self.step - 1)])
        steps = list(range(1, self.step + 2))
        self.query_one(Plot).set_series([Series("train", steps, [1 / s for s in steps])])
        text = "done" if self.step % 2 else "日本語"
        self.query_one("#wide").update(f"[bold on blue]{text}[/] [link=\'http://x\']docs[/] step={self.step}.")
    def action_redraw(self):
        self._driver.redraw()

Small(driver_class={"ours": ChangedCellsDriver, "stock": LinuxDriver}[sys.argv[1]]).run()
"""


_NOT_FOR_PYTE = re.compile(rb"\x1b\[(?:[<>=][0-9;]*[a-zA-Z]|\?[0-9;]*\$p)|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


class Terminal:
    """A child on a pseudo-terminal, and the screen that it draws."""

    def __init__(self, path: str, kind: str, rows: int, columns: int) -> None:
        self.size = rows, columns
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            environment = {
                **os.environ,
                "TERM": "xterm-256color",
                "COLORTERM": "truecolor",
                "LANG": "C.UTF-8",
                "TEXTUAL_ANIMATIONS": "none",
                "TZ": "UTC",
            }
            for name in ("COLUMNS", "LINES", "NO_COLOR"):
                environment.pop(name, None)
            os.execve(sys.executable, [sys.executable, path, kind], environment)
        self.bytes = 0
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self._rest = b""

    def read(self, seconds: float = 0.05) -> bool:
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:
            return False
        if b"\x1b[?2026$p" in data:
            os.write(self.fd, b"\x1b[?2026;2$y")
        self.bytes += len(data)
        # Sequences that pyte takes for text; one may be cut in two by the read.
        data = self._rest + data
        cut = data.rfind(b"\x1b")
        whole = re.fullmatch(rb"\x1b(?:\[[^@-~]*[@-~]|\][^\x07\x1b]*|[^\[\]])(?s:.*)", data[cut:]) if cut >= 0 else True
        self._rest = b"" if whole else data[cut:]
        data = data if whole else data[:cut]
        self.stream.feed(
            re.sub(rb"\x1b\[(?:[<>=][0-9;]*[a-zA-Z]|\?[0-9;]*\$p)|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)", b"", data)
        )
        return True

    def wait(self, condition: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"{what}: " + "\n".join(self.screen.display)
            self.read()
        while self.read(0.25):
            pass

    def shows(self, text: str) -> bool:
        return any(text in row for row in self.screen.display)

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def cells(self) -> list[list[tuple]]:
        buffer = self.screen.buffer
        return [[tuple(buffer[y][x]) for x in range(self.screen.columns)] for y in range(self.screen.lines)]

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Terminal]]:
    path = tmp_path / "small.py"
    path.write_text(APP)
    started: list[Terminal] = []

    def begin(kind: str, rows: int, columns: int) -> Terminal:
        started.append(Terminal(str(path), kind, rows, columns))
        return started[-1]

    yield begin
    for terminal in started:
        terminal.end()


def both(terminals: list[Terminal], keys: str, mark: str) -> None:
    for terminal in terminals:
        terminal.press(keys)
    for terminal in terminals:
        terminal.wait(lambda terminal=terminal: terminal.shows(mark), mark)
    stock, ours = terminals
    assert ours.cells() == stock.cells()


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (40, 120)])
def test_same_screen_as_the_stock_driver_for_fewer_bytes(start, rows: int, columns: int) -> None:
    stock, ours = terminals = [start(kind, rows, columns) for kind in ("stock", "ours")]
    both(terminals, "", "step=3.")
    before = [terminal.bytes for terminal in terminals]
    for number in range(6, 25, 3):
        both(terminals, "n", f"step={number}.")
    spent = [terminal.bytes - old for terminal, old in zip(terminals, before, strict=True)]
    assert spent[1] < spent[0] / 2
    for size in ((30, 100), (rows, columns)):
        for terminal in terminals:
            terminal.resize(*size)
        for terminal in terminals:
            terminal.wait(
                lambda terminal=terminal: not terminal.read(0.5) and terminal.shows("Quit"), "drawn after the resize"
            )
        assert ours.cells() == stock.cells()
        number += 3
        both(terminals, "n", f"step={number}.")


def test_redraw_repairs_what_something_else_wrote(start) -> None:
    stock, ours = terminals = [start(kind, 24, 80) for kind in ("stock", "ours")]
    both(terminals, "", "step=3.")
    ours.stream.feed(b"\x1b[2J\x1b[3;3Hmail for you")
    ours.press("r")
    ours.wait(lambda: ours.shows("step=3.") and not ours.shows("mail"), "repaired")
    assert ours.cells() == stock.cells()


def test_a_stop_and_continue_draws_the_screen_again(start) -> None:
    stock, ours = terminals = [start(kind, 24, 80) for kind in ("stock", "ours")]
    both(terminals, "", "step=3.")
    os.kill(ours.pid, signal.SIGSTOP)
    os.waitpid(ours.pid, os.WUNTRACED)
    ours.stream.feed(b"\x1b[2J\x1b[3;3H$ ls")
    os.kill(ours.pid, signal.SIGCONT)
    ours.wait(lambda: ours.shows("step=3."), "drawn again")
    assert ours.cells() == stock.cells()
    both(terminals, "n", "step=6.")


def test_a_terminal_that_reads_nothing_gets_the_newest_state_at_once(start) -> None:
    ours = start("ours", 40, 120)
    ours.wait(lambda: ours.shows("step=3."), "started")
    # Far more than the kernel keeps for a terminal; none of it is read.
    for _ in range(400):
        ours.press("nnnnn")
    before = ours.bytes
    ours.wait(lambda: ours.shows("step=6003."), "the newest state", timeout=60)
    assert ours.bytes - before < 400_000
