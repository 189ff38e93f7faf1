"""The controls pane: every control with its value, edited in place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from textual.widget import Widget
from textual.widgets import Static

from elektronn_tui.errors import ControlError
from elektronn_tui.session.protocol import ControlInfo, Receipt, Receipts, SetControls, Unpin
from elektronn_tui.training.controls import Control

from ..dialogs import ScheduleQuestion
from ..state import Part, SessionState
from ..wording import count, value_text
from .pane import Pane
from .rows import Column, Row, RowsView

if TYPE_CHECKING:
    from ..widgets.inline_edit import InlineEdit

__all__ = ["ControlsPane", "as_control", "receipt_text"]

COLUMNS = (
    Column("", grow=False, limit=40),
    Column("", limit=24),
    Column("", rank=2, limit=12),
    Column("", rank=1, grow=True),
)
VALUE = 1


def as_control(info: ControlInfo) -> Control:
    """Return a control that parses and refuses as the session's own does, as far as its limits tell."""

    def elsewhere(*_: Any) -> None:
        raise ControlError(f"{info.name}: its value lives in the session")

    return Control(
        name=info.name,
        type=info.type,
        get=elsewhere,
        set=elsewhere,
        minimum=info.minimum,
        maximum=info.maximum,
        exclusive_minimum=info.exclusive_minimum,
        exclusive_maximum=info.exclusive_maximum,
        choices=info.choices,
        optional=info.optional,
    )


def receipt_text(receipt: Receipt) -> str:
    """Return a receipt as a sentence."""
    change = f"{value_text(receipt.old)} → {value_text(receipt.new)}"
    text = f"{receipt.control} {change}, applied at step {count(receipt.step)}"
    return text + {"pinned": ", pinned", "continues": ", its schedule goes on from there"}.get(receipt.schedule, "")


class ControlsPane(Pane):
    """Controls in a table; Enter or the edit key opens the value under the cursor."""

    DEFAULT_CSS = """
    ControlsPane #control-detail { height: auto; max-height: 3; color: $text-muted; display: none; }
    ControlsPane.-detailed #control-detail { display: block; }
    """
    pane_name = "controls"
    number = 3
    parts: ClassVar[frozenset[Part]] = frozenset(("controls", "undo"))

    def content(self) -> Iterable[Widget]:
        """Give the table and the lines on the control under the cursor."""
        yield RowsView(COLUMNS, empty="no controls yet", id="control-rows")
        yield Static(id="control-detail", markup=False)

    def owner(self) -> Widget | None:
        """Give the table."""
        return self.query_one(RowsView)

    def take(self, state: SessionState, parts: frozenset[Part]) -> None:
        """Show the controls."""
        wanted = self.filter_text.lower()
        rows = [_row(info) for info in state.controls.values() if wanted in info.name.lower()]
        view = self.query_one(RowsView)
        view.set_empty("no controls yet" if state.live else "no checkpoint to read controls from")
        view.set_rows(rows)
        self.set_title(f"undo: {state.undo}" if state.undo else "")
        self._describe()

    def apply_filter(self, text: str) -> None:
        """Show the controls whose names contain a text."""
        self.take(self.state, self.parts)

    # --- editing

    async def on_rows_view_chosen(self, message: RowsView.Chosen) -> None:
        """Edit the control that Enter was pressed on."""
        message.stop()
        if self.session.may_write():
            await self.edit(message.key)

    async def edit(self, name: str | None = None) -> None:
        """Open the editor on a control, by default the one under the cursor. Keys wait until it is there.

        Parameters
        ----------
        name : str, optional
            Of the control.
        """
        from ..widgets.inline_edit import InlineEdit

        rows = self.query_one(RowsView)
        if name is not None:
            rows.select(name)
        name = rows.cursor_key
        if name is None:
            self.session.say("this session has no controls yet", "warn")
            return
        info = self.state.controls[name]
        region = rows.cell_region(name, VALUE)
        if region is None:
            return
        control = as_control(info)
        width = max(region.width + 2, 14)
        region = region.grow((0, max(0, min(width, rows.content_region.right - region.x) - region.width), 0, 0))

        def check(entered: str) -> str | None:
            try:
                control.parse(entered)
            except ControlError as error:
                return str(error).removeprefix(f"{name}: ")
            return None

        editor = InlineEdit(region, value_text(info.value), check=check, choices=info.choices)
        editor.control_name = name
        self._describe(f"it must be {control.limits()}")
        self.session.app.keep_keys()
        try:
            await self.screen.mount(editor)
        finally:
            self.session.app.call_later(
                self.session.app.release_keys
            )  # behind the change of focus, which is queued, too

    def on_inline_edit_accepted(self, message: InlineEdit.Accepted) -> None:
        """Ask the session for what was typed."""
        message.stop()
        self._describe()
        self.run_worker(self.set_value(message.editor.control_name, message.value), group="requests")

    def on_inline_edit_cancelled(self, message: InlineEdit.Cancelled) -> None:
        """Leave the value as it is."""
        message.stop()
        self._describe()

    async def set_value(self, name: str, entered: str) -> None:
        """Ask the session to set a control to what was typed; ask about its schedule first."""
        info = self.state.controls[name]
        value = as_control(info).parse(entered)
        schedule: Literal["", "pin", "continue"] = ""
        if info.schedule and not info.pinned:
            answer = await self.app.push_screen_wait(ScheduleQuestion(name, info.schedule, entered))
            if answer is None:
                self.session.say(f"{name} stays {value_text(info.value)}", "dim")
                return
            schedule = "pin" if answer == "pin" else "continue"
        answer_message = await self.session.ask(SetControls(values={name: value}, schedule=schedule))
        self._acknowledge(answer_message)

    async def unpin(self) -> None:
        """Give the control under the cursor back to its schedule."""
        name = self.query_one(RowsView).cursor_key
        info = self.state.controls.get(name or "")
        if info is None or not info.pinned:
            self.session.say(f"{name} is not pinned" if name else "no control is selected", "warn")
            return
        self._acknowledge(await self.session.ask(Unpin(control=info.name)))

    def _acknowledge(self, answer: Any) -> None:
        if isinstance(answer, Receipts):
            self.session.say_receipts(answer)

    # --- the lines below

    def on_rows_view_moved(self, message: RowsView.Moved) -> None:
        """Describe the control under the cursor."""
        message.stop()
        self._describe()

    def on_descendant_focus(self) -> None:
        """Describe the control under the cursor while the pane is in use."""
        self.set_class(True, "-detailed")
        self._describe()

    def on_descendant_blur(self) -> None:
        """Give the lines back to the table."""
        self.set_class(False, "-detailed")

    def _describe(self, text: str = "") -> None:
        info = self.state.controls.get(self.query_one(RowsView).cursor_key or "")
        if info is None:
            return
        if not text:
            limits = as_control(info).limits() if self.state.live else ""
            text = "   ".join(part for part in (info.help, limits) if part)
            if info.default is not None and info.default != info.value:
                text += f"   began as {value_text(info.default)}"
        self.query_one("#control-detail", Static).update(text)


def _row(info: ControlInfo) -> Row:
    more: list[tuple[str, str]] = []
    if info.schedule:
        more.append((info.schedule, "dim"))
        if info.pinned:
            more = [("pinned", "warn"), (f" (was {info.schedule})", "dim")]
    if info.edits:
        more += [("  " if more else "", ""), (f"✎ {info.edits} edit{'s' * (info.edits > 1)}", "accent")]
    return Row(info.name, (info.name, ((value_text(info.value), "strong"),), ((info.unit, "dim"),), tuple(more)))
