"""Edits of controls that can be taken back and brought back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from elektronn_tui.errors import ControlError
from elektronn_tui.training.controls import Controls, ScheduleState

from .journal import shown
from .protocol import Receipt

__all__ = ["Change", "Edit", "Edits"]


@dataclass(frozen=True)
class Change:
    """What an edit did to one control, and how to go back and forth."""

    control: str
    old: Any
    new: Any
    before: ScheduleState
    after: ScheduleState

    def reversed(self) -> Change:
        """Return the change that takes this one back."""
        return Change(self.control, self.new, self.old, self.after, self.before)

    def text(self) -> str:
        """Return the change for people."""
        if self.old == self.new and self.before.pinned != self.after.pinned:
            return f"{self.control} {'pinned' if self.after.pinned else 'back on its schedule'}"
        return (
            f"{self.control} {shown(self.old)} → {shown(self.new)}{f' ({self.schedule()})' if self.schedule() else ''}"
        )

    def schedule(self) -> str:
        """Say what became of the control's schedule."""
        if self.after.schedule is None or self.before == self.after:
            return "pinned" if self.after.pinned else ""
        return "pinned" if self.after.pinned else "continues"

    def receipt(self, step: int, entry: int) -> Receipt:
        """Return the receipt for the client."""
        return Receipt(
            control=self.control, old=self.old, new=self.new, step=step, schedule=self.schedule(), entry=entry
        )


Edit = tuple[Change, ...]
"""Changes that were made together and are taken back together."""


def text(edit: Edit) -> str:
    """Return an edit for people."""
    return "; ".join(change.text() for change in edit)


def _reversed(edit: Edit) -> Edit:
    return tuple(change.reversed() for change in reversed(edit))


class Edits:
    """Make, undo and redo edits; main thread only, but for `check`.

    Every method takes `record`, called when the controls have their new values and before anybody is told: when it
    raises, the controls go back to what they were.
    """

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._done: list[Edit] = []
        self._undone: list[Edit] = []

    @property
    def undo_text(self) -> str:
        """What the next undo takes back, empty for nothing."""
        return text(self._done[-1]) if self._done else ""

    @property
    def redo_text(self) -> str:
        """What the next redo brings back, empty for nothing."""
        return text(_reversed(self._undone[-1])) if self._undone else ""

    def check(self, values: Mapping[str, Any], schedule: str) -> dict[str, Any]:
        """Return typed values; changes nothing, from any thread.

        Raises
        ------
        ControlError
            A control does not exist, a value does not fit, or it has to be said what becomes of a schedule.
        """
        if not values:
            raise ControlError("no control was named")
        typed = {name: self._controls.parse(name, value) for name, value in values.items()}
        for name in typed:
            if not schedule and self._controls.driven(name):
                described = self._controls.info(name).schedule
                raise ControlError(
                    f"{name} is driven by a schedule ({described}): pin it, or let the schedule continue from there"
                )
        return typed

    def set(self, values: Mapping[str, Any], schedule: str, step: int, record: Callable[[Edit], None]) -> Edit:
        """Set controls together, all or none; `step` is the first that runs with them."""
        self.check(values, schedule)  # again: since it was asked, another client may have set a schedule free

        def change() -> Edit:
            changes = []
            for name, value in values.items():
                before = self._controls.schedule_state(name)
                driven = self._controls.driven(name)
                old, _ = self._controls.set(name, value)
                if driven and schedule == "pin":
                    self._controls.pin(name)
                elif schedule == "continue":
                    self._controls.continue_schedule(name, step)
                after = self._controls.schedule_state(name)
                changes.append(Change(name, old, self._controls[name].get(), before, after))
            return tuple(changes)

        return self._new(change, tuple(values), record)

    def unpin(self, name: str, record: Callable[[Edit], None]) -> Edit:
        """Give a control back to its schedule."""
        if name not in self._controls.pinned:
            raise ControlError(f"{self._controls[name].name} is not pinned")

        def change() -> Edit:
            before, value = self._controls.schedule_state(name), self._controls[name].get()
            self._controls.unpin(name)
            return (Change(name, value, value, before, self._controls.schedule_state(name)),)

        return self._new(change, (name,), record)

    def undo(self, record: Callable[[Edit], None]) -> Edit:
        """Take the newest edit back."""
        return self._move(self._done, self._undone, "there is nothing to undo", record)

    def redo(self, record: Callable[[Edit], None]) -> Edit:
        """Bring the edit back that was undone last."""
        return self._move(self._undone, self._done, "there is nothing to redo", record)

    def _new(self, change: Callable[[], Edit], names: tuple[str, ...], record: Callable[[Edit], None]) -> Edit:
        saved = {name: (self._controls[name].get(), self._controls.schedule_state(name)) for name in names}
        try:
            edit = change()
            record(edit)
        except BaseException:
            for name, (value, state) in saved.items():
                self._put(name, value, state)
            raise
        self._done.append(edit)
        del self._done[:-1000]
        self._undone.clear()
        return edit

    def _move(self, source: list[Edit], target: list[Edit], nothing: str, record: Callable[[Edit], None]) -> Edit:
        if not source:
            raise ControlError(nothing)
        taken = source[-1]
        back = _reversed(taken)
        present = [(change.control, self._controls[change.control].get(), self._state(change)) for change in back]
        made = []
        try:
            for change in back:
                old = self._controls[change.control].get()
                self._put(change.control, change.new, change.after)
                made.append(Change(change.control, old, change.new, change.before, change.after))
            record(tuple(made))
        except BaseException:
            for name, value, state in present:
                self._put(name, value, state)
            raise
        source.pop()
        target.append(back)
        return tuple(made)

    def _state(self, change: Change) -> ScheduleState:
        return self._controls.schedule_state(change.control)

    def _put(self, name: str, value: Any, state: ScheduleState) -> None:
        # Not by Controls.set: an undo is no edit of its own, and a schedule may have led to the end of a range that
        # a person can't choose.
        self._controls[name].set(value)
        self._controls.set_schedule_state(name, state)
