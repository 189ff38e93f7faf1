"""Real terminals for tests and benchmarks: a pty with an emulator behind it, and tmux."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
import pyte

# pyte 0.8 takes these for other sequences; what they mean does not matter for the cells.
_UNKNOWN_TO_PYTE = re.compile(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]|\x1b\[\?[0-9;]*\$p|\x1b\[\?2026[hl]|\x1b_[^\x1b]*\x1b\\")


def base_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a person's true-colour terminal."""
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", **(extra or {})}
    # The last is what a developer may have set; an installed package has its byte code beside it.
    for name in ("NO_COLOR", "COLUMNS", "LINES", "TMUX", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    return environment


class PtyTerminal:
    """A program on a pty; what it writes is timed, counted and drawn on an emulated screen."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 120,
        rows: int = 40,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.columns, self.rows = columns, rows
        self.started = time.perf_counter()
        self.chunks: list[tuple[float, bytes]] = []
        self._lock = threading.Lock()
        self._raw = bytearray()
        pid, self._fd = pty.fork()
        if pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            if cwd is not None:
                os.chdir(cwd)
            os.execvpe(command[0], list(command), base_environment(environment))
        self.pid = pid
        self.process = psutil.Process(pid)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                ready, _, _ = select.select([self._fd], [], [], 1.0)
                data = os.read(self._fd, 1 << 16) if ready else None
            except (OSError, ValueError):
                return
            if data is None:
                continue
            if not data:
                return
            with self._lock:
                self.chunks.append((time.perf_counter(), data))
                self._raw += data
            if b"\x1b[?2026$p" in data:  # "do you know synchronised updates?" - "yes"
                self.send(b"\x1b[?2026;2$y")

    def send(self, keys: bytes | str) -> float:
        """Type; return the time of it."""
        now = time.perf_counter()
        os.write(self._fd, keys.encode() if isinstance(keys, str) else keys)
        return now

    @property
    def byte_count(self) -> int:
        """Bytes that the program has written so far."""
        with self._lock:
            return len(self._raw)

    def written(self) -> str:
        """Return all that the program has written, with its control sequences."""
        with self._lock:
            return self._raw.decode(errors="replace")

    def screen(self) -> pyte.Screen:
        """Return the emulated screen as it is now."""
        with self._lock:
            raw = bytes(self._raw)
        screen = pyte.Screen(self.columns, self.rows)
        pyte.ByteStream(screen).feed(_UNKNOWN_TO_PYTE.sub(b"", raw))
        return screen

    def text(self) -> str:
        """Return the characters on the screen."""
        return "\n".join(self.screen().display)

    def wait_for(self, wanted: str | Callable[[str], bool], seconds: float = 20.0) -> float:
        """Wait until the screen shows something; return the time of the bytes that showed it."""
        seen = -1
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            count = self.byte_count
            if count != seen:
                seen = count
                text = self.text()
                if wanted(text) if callable(wanted) else wanted in text:
                    with self._lock:
                        return self.chunks[-1][0]
            time.sleep(0.01)
        raise TimeoutError(f"{wanted!r} was not seen in {seconds} s; the screen shows:\n{self.text()}")

    def wait_for_all(self, wanted: Sequence[bytes], seconds: float = 20.0) -> float:
        """Wait until each of these patterns (regular expressions) was written; return when the last one was."""
        patterns = [re.compile(pattern) for pattern in wanted]
        deadline = time.perf_counter() + seconds
        while True:
            with self._lock:
                ends = [match.end() for match in (pattern.search(self._raw) for pattern in patterns) if match]
                if len(ends) == len(patterns):
                    end = max(ends)
                    for moment, data in self.chunks:
                        end -= len(data)
                        if end <= 0:
                            return moment
            if time.perf_counter() > deadline:
                raise TimeoutError(f"not all of {wanted!r} in {seconds} s; the screen shows:\n{self.text()}")
            time.sleep(0.002)

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        self.columns, self.rows = columns, rows
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def hang_up(self) -> None:
        """Close the terminal's master side, as a closed window does."""
        os.close(self._fd)

    def wait(self, seconds: float = 20.0) -> int:
        """Wait for the program's end and return its exit code."""
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        raise TimeoutError(f"the program did not end in {seconds} s; the screen shows:\n{self.text()}")

    def close(self) -> None:
        """End the program, if it still runs."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(self.pid, number)
                self.wait(3.0)
                break
            except (ProcessLookupError, ChildProcessError):
                break
            except TimeoutError:
                continue
        with contextlib.suppress(OSError):  # hung up already
            os.close(self._fd)

    def __enter__(self) -> PtyTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tmux:
    """A tmux server of its own with one window; skip tests when `Tmux.missing()` says why."""

    def __init__(self, *, columns: int = 120, rows: int = 40, environment: Mapping[str, str] | None = None) -> None:
        self._socket = f"elektronn-test-{uuid.uuid4().hex[:8]}"
        self._environment = base_environment(environment)
        self._run("-f", "/dev/null", "new-session", "-d", "-s", "t", "-x", str(columns), "-y", str(rows), "bash --norc")
        self._run("set-option", "-g", "default-terminal", "tmux-256color")

    @staticmethod
    def missing() -> str:
        """Return why tmux can't be used here, or an empty string."""
        return "" if shutil.which("tmux") else "tmux is not installed: apt-get install tmux"

    def _run(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True).stdout

    def type(self, text: str, *, enter: bool = False) -> None:
        """Type text, letter by letter."""
        self._run("send-keys", "-t", "t", "-l", text)
        if enter:
            self.press("Enter")

    def press(self, *keys: str) -> None:
        """Press keys by their tmux names."""
        self._run("send-keys", "-t", "t", *keys)

    def text(self) -> str:
        """Return what the window shows."""
        return self._run("capture-pane", "-t", "t", "-p")

    @property
    def pane_pid(self) -> int:
        """Process id of the window's shell."""
        return int(self._run("display-message", "-t", "t", "-p", "#{pane_pid}"))

    def wait_for(self, wanted: str | Callable[[str], bool], seconds: float = 30.0) -> str:
        """Wait until the window shows something and return its text."""
        deadline = time.perf_counter() + seconds
        while True:
            text = self.text()
            if wanted(text) if callable(wanted) else wanted in text:
                return text
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{wanted!r} was not seen in {seconds} s; the window shows:\n{text}")
            time.sleep(0.05)

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        self._run("resize-window", "-t", "t", "-x", str(columns), "-y", str(rows))

    def close(self) -> None:
        """End the server and what runs in it."""
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], capture_output=True, check=False)

    def __enter__(self) -> Tmux:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
