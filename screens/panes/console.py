"""The console pane: Python in the session, with a transcript that all clients share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.css.query import NoMatches
from textual.widget import Widget
from textual.widgets import Static

from elektronn_tui.errors import SessionError
from elektronn_tui.session import registry
from elektronn_tui.session.protocol import (
    Complete,
    Completions,
    ConsoleMode,
    ConsoleOutput,
    Execute,
    Executed,
)

from ..state import Part, SessionState
from .pane import Pane
from .transcript import TranscriptView

if TYPE_CHECKING:
    from ..widgets.code_input import CodeInput

__all__ = ["ConsolePane", "append_history", "read_history"]

HISTORY_FILE = "console-history"
KEPT_STATEMENTS = 2000


def read_history() -> list[str]:
    """Return the person's earlier statements, the oldest first; what can't be read is left out."""
    try:
        lines = (registry.home() / HISTORY_FILE).read_text(encoding="utf-8").splitlines()[-KEPT_STATEMENTS:]
    except (OSError, UnicodeDecodeError):
        return []
    statements = []
    for line in lines:
        try:
            statement = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(statement, str):
            statements.append(statement)
    return statements


def append_history(statement: str) -> None:
    """Keep a statement for the next time, in this and every other session."""
    path = registry.home() / HISTORY_FILE
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(statement, ensure_ascii=False) + "\n")
    if path.stat().st_size > 200 * KEPT_STATEMENTS:
        kept = [json.dumps(text, ensure_ascii=False) for text in read_history()]
        path.write_text("\n".join(kept) + "\n", encoding="utf-8")


class ConsolePane(Pane):
    """The transcript, and a prompt that is mounted when somebody first writes."""

    DEFAULT_CSS = """
    ConsolePane #prompt-line { height: auto; max-height: 10; }
    ConsolePane #prompt { width: auto; height: 1; color: $accent; padding-right: 1; }
    ConsolePane #signature { height: auto; max-height: 2; color: $text-muted; display: none; }
    """
    pane_name = "console"
    number = 6
    parts: ClassVar[frozenset[Part]] = frozenset(("console", "status"))
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,i", "write", "write", show=False)]

    def __init__(self) -> None:
        super().__init__()
        self.mode: ConsoleMode = "observe"
        self._local: list[ConsoleOutput] = []
        self._unanswered = 0
        self._known = 0
        self._prompt = Static(id="prompt", markup=False)

    # --- what is shown

    def content(self) -> Iterable[Widget]:
        """Give the transcript and the line of the prompt."""
        yield TranscriptView()
        yield Static(id="signature", markup=False)
        yield Horizontal(self._prompt, id="prompt-line")

    def owner(self) -> Widget | None:
        """Give the editor while it is written into, else the transcript."""
        editor = self.editor
        return editor if editor is not None and editor.has_focus else self.query_one(TranscriptView)

    @property
    def editor(self) -> CodeInput | None:
        """The editor, once it is there."""
        from ..widgets.code_input import CodeInput

        try:
            return self.query_one(CodeInput)
        except NoMatches:
            return None

    def take(self, state: SessionState, parts: frozenset[Part]) -> None:
        """Show the transcript and the mode."""
        if not state.status.held_by and self.mode == "hold" and "status" in parts:
            self.mode = "observe"
        self._draw_prompt()
        if parts & {"console", "link"}:
            self._drop_echo(state.console)
            self._draw()

    def _draw(self) -> None:
        wanted = self.filter_text.lower()
        pieces = (*self.state.console, *self._local)
        self.query_one(TranscriptView).show([piece for piece in pieces if wanted in piece.text.lower()])

    def _draw_prompt(self) -> None:
        running = self.state.status.running_statement
        pieces: tuple[str | tuple[str, str], ...]
        if not self.state.live:
            pieces = ("",)
        elif running:
            pieces = (f"[{self.mode}] ", ("runs, ^C interrupts", "$warning"))
        elif self.editor is not None:
            pieces = (f"[{self.mode}] ", (">>>", "bold"))
        else:
            pieces = (f"[{self.mode}] ", (">>> ", "bold"), (f"{self._key('console')} writes", "$text-muted"))
        self._prompt.update(Content.assemble(*pieces))

    def _key(self, name: str) -> str:
        from elektronn_tui.actions import find

        return self.session.keys.shown(find(name))

    def apply_filter(self, text: str) -> None:
        """Show the pieces of the transcript that contain a text."""
        self._draw()

    # --- writing

    async def action_write(self) -> None:
        """Write a statement."""
        await self.session.action_console()

    async def write(self) -> None:
        """Put the caret into the prompt."""
        if not self.session.may_write():
            return
        editor = self.editor or await self._mount_editor()
        editor.focus()

    async def _mount_editor(self) -> CodeInput:
        from ..widgets.code_input import CodeInput

        editor = CodeInput(self._complete, await asyncio.to_thread(read_history))
        await self.query_one("#prompt-line", Horizontal).mount(editor)
        self._draw_prompt()
        return editor

    def on_code_input_submitted(self, message: CodeInput.Submitted) -> None:
        """Run what was written."""
        message.stop()
        self._show_signature("")
        self.run(message.code)

    def on_code_input_interrupt(self, message: CodeInput.Interrupt) -> None:
        """Interrupt the running statement."""
        message.stop()
        self.session.action_interrupt()

    def on_code_input_left(self, message: CodeInput.Left) -> None:
        """Give the focus to the transcript."""
        message.stop()
        self._show_signature("")
        self.query_one(TranscriptView).focus()

    # --- running

    def run(self, code: str) -> None:
        """Run a statement in the session, and keep it in the history."""
        try:
            append_history(code)
        except OSError as error:
            self.session.say(f"the history can't be written: {error}", "warn")
        self._known = max((piece.statement for piece in self.state.console), default=0)
        self._local = [ConsoleOutput(statement=0, stream="code", text=code)]
        self._draw()
        self.run_worker(self._run(code), group="statements")

    @property
    def waits(self) -> bool:
        """Whether a statement of this console was sent and has not been answered."""
        return self._unanswered > 0

    async def _run(self, code: str) -> None:
        self._unanswered += 1
        try:
            answer = await self.session.request(Execute(code=code, mode=self.mode))
        except SessionError as error:
            # What was typed stays to be seen beside the reason: a syntax error, most often.
            self.session.say(str(error), "bad")
            self._local = [*self._local[:1], ConsoleOutput(statement=0, stream="error", text=str(error))]
            self._draw()
            return
        finally:
            self._unanswered -= 1
        assert isinstance(answer, Executed)
        # Shown at once; the transcript brings the same pieces with the next delta.
        echo = [ConsoleOutput(statement=answer.statement, stream="code", text=code)]
        if answer.output:
            echo.append(ConsoleOutput(statement=answer.statement, stream="stdout", text=answer.output))
        if answer.error:
            echo.append(ConsoleOutput(statement=answer.statement, stream="error", text=answer.error))
        seen = any(piece.statement == answer.statement for piece in self.state.console)
        self._local = [] if seen else echo
        self._draw()

    def _drop_echo(self, pieces: Sequence[ConsoleOutput]) -> None:
        """Forget what is shown ahead of the transcript once the transcript has it."""
        if not self._local:
            return
        number = self._local[0].statement
        if any(piece.statement == number if number else piece.statement > self._known for piece in pieces):
            self._local = []

    # --- completion

    async def _complete(self, code: str, row: int, column: int) -> Completions | None:
        """Complete from live objects at once; what jedi knows is added when it comes."""
        try:
            quick = await self.session.request(Complete(code=code, line=row, column=column, fast=True))
            if isinstance(quick, Completions) and quick.items:
                self.run_worker(self._complete_more(quick, code, row, column), group="jedi", exclusive=True)
                return quick
            full = await self.session.request(Complete(code=code, line=row, column=column))
        except SessionError as error:
            self.session.say(str(error), "bad")
            return None
        if not isinstance(full, Completions):
            return None
        self._show_signature(full.signature)
        return full

    async def _complete_more(self, quick: Completions, code: str, row: int, column: int) -> None:
        try:
            full = await self.session.request(Complete(code=code, line=row, column=column))
        except SessionError:
            return
        editor = self.editor
        if editor is None or not isinstance(full, Completions):
            return
        if (editor.text, editor.cursor_location) != (code, (row, column)):
            return
        self._show_signature(full.signature)
        known = {item.name for item in quick.items}
        more = [item for item in full.items if item.name not in known]
        if more and editor.popup.is_open:
            word = editor.document.get_line(row)[min(quick.start, column) : column]
            editor.popup.open((*quick.items, *more), word, editor.cursor_screen_offset)

    def _show_signature(self, text: str) -> None:
        hint = self.query_one("#signature", Static)
        hint.update(text)
        hint.display = bool(text)
