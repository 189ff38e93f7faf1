"""The editor of a console: several lines of Python, coloured, with history and completion."""

from __future__ import annotations

from collections.abc import Iterable

from textual import events
from textual._text_area_theme import TextAreaTheme
from textual.message import Message
from textual.widgets import TextArea

from .completion_popup import Complete, CompletionPopup
from .python_text import SYNTAX_STYLES, highlights, indentation, verdict

__all__ = ["CodeInput"]

_THEME = "elektronn"
_INDENT = 4


class CodeInput(TextArea):
    """Edit a statement and submit it.

    Enter submits a complete statement and begins a new line in an unfinished one. The up and down keys leave the
    first and last line into the history. Tab completes, Esc closes the list of completions, then leaves the editor.
    Ctrl-C copies a selection, else it interrupts.

    Parameters
    ----------
    complete : callable, optional
        ``await complete(code, row, column)`` gives completions at the caret (row and column from 0).
    history : iterable of str, optional
        Earlier statements, the oldest first.
    name, id, classes : str, optional
        As for every widget.
    """

    DEFAULT_CSS = """
    CodeInput, CodeInput:focus { border: none; padding: 0; height: auto; max-height: 12; }
    """

    class Submitted(Message):
        """A statement was submitted."""

        def __init__(self, editor: CodeInput, code: str) -> None:
            super().__init__()
            self.editor = editor
            self.code = code

        @property
        def control(self) -> CodeInput:
            """The editor."""
            return self.editor

    class Interrupt(Message):
        """Ctrl-C was pressed with nothing selected."""

        def __init__(self, editor: CodeInput) -> None:
            super().__init__()
            self.editor = editor

        @property
        def control(self) -> CodeInput:
            """The editor."""
            return self.editor

    class Left(Message):
        """Esc was pressed with no list open; the editor has given up the focus."""

        def __init__(self, editor: CodeInput) -> None:
            super().__init__()
            self.editor = editor

        @property
        def control(self) -> CodeInput:
            """The editor."""
            return self.editor

    def __init__(
        self,
        complete: Complete | None = None,
        history: Iterable[str] = (),
        *,
        placeholder: str = "",
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        # Before the base class: it builds a highlight map at once.
        self._code_complete = complete
        self._code_history = list(history)
        self._code_place: int | None = None
        self._code_draft = ""
        self._code_request = 0
        self._code_popup = CompletionPopup()
        self._code_word = (0, 0)  # row and column where what the list completes begins
        super().__init__(
            "",
            soft_wrap=True,
            tab_behavior="focus",
            show_line_numbers=False,
            highlight_cursor_line=False,
            placeholder=placeholder,
            compact=True,
            name=name,
            id=id,
            classes=classes,
        )
        self.cursor_blink = False
        self.indent_width = _INDENT
        self.register_theme(TextAreaTheme(_THEME, syntax_styles=dict(SYNTAX_STYLES)))
        self.theme = _THEME

    # Life and history -----------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Put the list of completions on the screen, where nothing cuts it off."""
        self.screen.mount(self._code_popup)

    def on_unmount(self) -> None:
        """Take the list of completions away."""
        if self._code_popup.is_attached:
            self._code_popup.remove()

    @property
    def popup(self) -> CompletionPopup:
        """The list of completions."""
        return self._code_popup

    @property
    def statements(self) -> tuple[str, ...]:
        """The history, the oldest first."""
        return tuple(self._code_history)

    def set_history(self, statements: Iterable[str]) -> None:
        """Replace the history, the oldest statement first."""
        self._code_history = list(statements)
        self._code_place = None

    def _code_recall(self, by: int) -> bool:
        """Show an older (-1) or newer (1) statement; after the newest comes what was being typed."""
        count = len(self._code_history)
        place = count if self._code_place is None else self._code_place
        wanted = place + by
        if not 0 <= wanted <= count or not count:
            return False
        if place == count:
            self._code_draft = self.text
        text = self._code_history[wanted] if wanted < count else self._code_draft
        self._code_place = wanted if wanted < count else None
        self.text = text
        self.move_cursor(self.document.end)
        return True

    # Highlighting ---------------------------------------------------------------------------------

    def _build_highlight_map(self) -> None:
        # Textual's own needs tree-sitter. Private: tests/screens/test_code_input.py says when it has moved.
        self._line_cache.clear()
        self._highlights.clear()
        text = self.document.text
        if text and not text.isspace():
            self._highlights.update({row: list(spans) for row, spans in highlights(text).items()})

    # Keys -----------------------------------------------------------------------------------------

    async def _on_key(self, event: events.Key) -> None:
        if self._code_key(event.key):
            event.stop()
            event.prevent_default()
            return
        await super()._on_key(event)

    def _code_key(self, key: str) -> bool:
        """Do what a key means here; False leaves it to the editor."""
        popup = self._code_popup
        if popup.is_open:
            if key in ("up", "down"):
                popup.move(1 if key == "down" else -1)
                return True
            if key in ("enter", "tab"):
                self._code_accept()
                return True
            if key == "escape":
                popup.close()
                return True
        if key == "enter":
            self._code_enter()
        elif key == "tab":
            self._code_tab()
        elif key == "escape":
            self.blur()
            self.post_message(self.Left(self))
        elif key == "ctrl+c":
            if self.selection.is_empty:
                self.post_message(self.Interrupt(self))
            else:
                self.action_copy()
        elif key == "up" and self.cursor_at_first_line and self.selection.is_empty:
            return self._code_recall(-1)
        elif key == "down" and self.cursor_at_last_line and self.selection.is_empty:
            return self._code_recall(1)
        elif key == "backspace":
            return self._code_dedent()
        else:
            return False
        return True

    def _code_enter(self) -> None:
        at_end = self.cursor_location[0] == self.document.line_count - 1
        if not self.text.strip():
            return
        if at_end and verdict(self.text) != "incomplete":
            self.submit()
            return
        start, end = self.selection
        line = self.document.get_line(min(start, end)[0])[: min(start, end)[1]]
        self._replace_via_keyboard("\n" + indentation(line), start, end)

    def submit(self) -> None:
        """Submit the text as it is, and begin anew."""
        code = self.text.rstrip()
        if not self._code_history or self._code_history[-1] != code:
            self._code_history.append(code)
        self._code_place = None
        self._code_draft = ""
        self.clear()
        self._code_popup.close()
        self.post_message(self.Submitted(self, code))

    def _code_dedent(self) -> bool:
        """Take back one level of indentation."""
        row, column = self.cursor_location
        before = self.document.get_line(row)[:column]
        if not self.selection.is_empty or not before or before.strip(" ") or len(before) < 2:
            return False
        self._delete_via_keyboard((row, (column - 1) // _INDENT * _INDENT), (row, column))
        return True

    # Completion -----------------------------------------------------------------------------------

    def _code_tab(self) -> None:
        row, column = self.cursor_location
        before = self.document.get_line(row)[:column]
        if not before.strip():
            start, end = self.selection
            self._replace_via_keyboard(" " * (_INDENT - column % _INDENT), start, end)
        elif self._code_complete is not None:
            self._code_request += 1
            self.run_worker(self._code_ask(self._code_request), group="completion", exclusive=True)

    async def _code_ask(self, request: int) -> None:
        """Fetch completions; an answer that comes after the text has changed is dropped."""
        complete = self._code_complete
        if complete is None:
            return
        code, (row, column) = self.text, self.cursor_location
        answer = await complete(code, row, column)
        if request != self._code_request or (code, (row, column)) != (self.text, self.cursor_location):
            return
        popup = self._code_popup
        if answer is None or not answer.items:
            popup.close()
            return
        self._code_word = (row, min(answer.start, column))
        word = self.document.get_line(row)[self._code_word[1] : column]
        popup.open(answer.items, word, self.cursor_screen_offset)
        common = popup.common_prefix()
        if len(popup.options) == 1:
            self._code_accept()
        elif len(common) > len(word) and common.startswith(word):
            self._replace_via_keyboard(common, (row, column - len(word)), (row, column))

    def _code_accept(self) -> None:
        item = self._code_popup.chosen
        self._code_popup.close()
        if item is None:
            return
        self._replace_via_keyboard(item.name, self._code_word, self.cursor_location)

    def on_text_area_changed(self) -> None:
        """Narrow the open list to what is typed now."""
        if self._code_popup.is_open:
            row, column = self.cursor_location
            first, start = self._code_word
            if row == first and column > start:
                self._code_popup.narrow(self.document.get_line(row)[start:column])
            else:
                self._code_popup.close()

    def on_blur(self) -> None:
        """Close the list."""
        self._code_popup.close()
