"""All live values of a session by their names, and the schedules that drive some of them.

Values are written on the main thread alone. `Controls.parse`, `Controls.info` and `Controls.infos` may be called from
any thread: they read immutable descriptions that a write replaces.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from elektronn_tui.errors import ControlError, did_you_mean
from elektronn_tui.session.journal import shown
from elektronn_tui.session.protocol import ControlInfo

from .control import Control
from .schedules import Schedule, schedule_from_dict

__all__ = ["Controls", "ScheduleState"]


@dataclass(frozen=True)
class ScheduleState:
    """Where a control stands with its schedule; what an undo or a checkpoint brings back."""

    schedule: Schedule | None = None
    base: Any = None
    pinned: bool = False


class Controls:
    """The controls of a session, in the order in which they were added.

    Attributes
    ----------
    version : int
        Rises with each change of a value, a schedule or a pin.
    """

    def __init__(self) -> None:
        self.version = 0
        self._controls: dict[str, Control] = {}
        self._defaults: dict[str, Any] = {}
        self._edits: dict[str, int] = {}
        self._schedules: dict[str, ScheduleState] = {}
        self._infos: dict[str, ControlInfo] = {}

    # --- what there is ----------------------------------------------------------------------------

    def add(self, control: Control) -> None:
        """Add a control; its value now is its default.

        Raises
        ------
        ControlError
            The name is taken.
        """
        if control.name in self._controls:
            raise ControlError(f"{control.name}: a control of this name exists already")
        self._controls[control.name] = control
        self._defaults[control.name] = control.get()
        self._edits[control.name] = 0
        self._schedules[control.name] = ScheduleState()
        self._describe(control.name)

    def names(self) -> tuple[str, ...]:
        """Return all names, in order."""
        return tuple(self._controls)

    def __contains__(self, name: object) -> bool:
        return name in self._controls

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._controls)

    def __getitem__(self, name: str) -> Control:
        try:
            return self._controls[name]
        except KeyError:
            known = did_you_mean(name, self._controls)
            raise ControlError(
                f"no control is called {name!r}.{known or ' Known: ' + ', '.join(self._controls)}"
            ) from None

    def __repr__(self) -> str:
        width = max(map(len, self._infos), default=0)
        lines = [f"{info.name:<{width}}  {shown(info.value)}  {info.schedule}".rstrip() for info in self.infos()]
        return "\n".join(lines)

    def values(self) -> dict[str, Any]:
        """Return all values by name, read where they live."""
        return {name: control.get() for name, control in self._controls.items()}

    def info(self, name: str) -> ControlInfo:
        """Return a control as clients see it.

        Raises
        ------
        ControlError
            No control goes by that name.
        """
        self[name]
        return self._infos[name]

    def infos(self) -> tuple[ControlInfo, ...]:
        """Return all controls as clients see them, in order."""
        return tuple(self._infos.values())

    # --- values -----------------------------------------------------------------------------------

    def parse(self, name: str, value: Any) -> Any:
        """Return `value`, a text or already typed, as the type of control `name`; changes nothing.

        Raises
        ------
        ControlError
            No control goes by that name, or the value is of another type or outside its limits.
        """
        return self[name].parse(value)

    def set(self, name: str, value: Any) -> tuple[Any, Any]:
        """Set a control by hand and return its old and new value. Main thread only.

        Raises
        ------
        ControlError
            As for `parse`; nothing was changed then.
        """
        control = self[name]
        new = control.parse(value)
        old = control.get()
        control.set(new)
        self._edits[name] += 1
        self._describe(name)
        return old, new

    def start_with(self, name: str, value: Any) -> None:
        """Give a control the value that the session starts with: it becomes the default and counts as no edit.

        Raises
        ------
        ControlError
            As for `parse`; nothing was changed then.
        """
        control = self[name]
        control.set(control.parse(value))
        self._defaults[name] = control.get()
        self._describe(name)

    def refresh(self) -> bool:
        """Notice values that were changed behind the registry's back, as a console statement can. Main thread only.

        Returns
        -------
        changed : bool
        """
        before = self.version
        for name, control in self._controls.items():
            if _plain(control.get()) != self._infos[name].value:
                self._describe(name)
        return self.version != before

    # --- schedules --------------------------------------------------------------------------------

    def schedule(self, name: str) -> Schedule | None:
        """Return the schedule of a control, pinned or not."""
        self[name]
        return self._schedules[name].schedule

    def set_schedule(self, name: str, schedule: Schedule | None) -> None:
        """Let a schedule drive a control from its present value on, or none.

        Raises
        ------
        ControlError
            The schedule leads to a value that the control can't take. (The exclusive end of a range is allowed
            here: a learning rate may be led to 0.)
        """
        control = self[name]
        base = control.get()
        if schedule is not None:
            self._check_schedule(control, schedule, base)
        self.set_schedule_state(name, ScheduleState(schedule, base))

    @staticmethod
    def _check_schedule(control: Control, schedule: Schedule, base: Any) -> None:
        try:
            values = schedule.extremes(base)
        except (TypeError, ValueError):
            raise ControlError(
                f"{control.name}: the schedule {type(schedule).__name__} does not fit a control of type {control.type}"
            ) from None
        for value in values:
            if value == control.minimum and control.type in ("float", "int"):
                continue
            try:
                control.parse(round(value) if control.type == "int" and isinstance(value, float) else value)
            except ControlError as error:
                raise ControlError(f"schedule of {error}") from error

    @property
    def pinned(self) -> builtins.set[str]:
        """Names of scheduled controls that were fixed by hand."""
        return {name for name, state in self._schedules.items() if state.pinned}

    def driven(self, name: str) -> bool:
        """Tell whether a schedule drives the control now: an edit then has to say what becomes of it."""
        self[name]
        state = self._schedules[name]
        return state.schedule is not None and not state.pinned

    def pin(self, name: str) -> None:
        """Keep a scheduled control as it is."""
        state = self.schedule_state(name)
        self.set_schedule_state(name, ScheduleState(state.schedule, state.base, pinned=state.schedule is not None))

    def unpin(self, name: str) -> None:
        """Give a control back to its schedule; it takes the scheduled value before the next step."""
        state = self.schedule_state(name)
        self.set_schedule_state(name, ScheduleState(state.schedule, state.base))

    def continue_schedule(self, name: str, step: int) -> None:
        """Let the schedule go on from the control's present value, which step `step` is the first to run with."""
        state = self.schedule_state(name)
        if state.schedule is not None:
            schedule, base = state.schedule.continued(step, self[name].get(), state.base)
            self.set_schedule_state(name, ScheduleState(schedule, base))

    def schedule_state(self, name: str) -> ScheduleState:
        """Return what `set_schedule_state` brings back."""
        self[name]
        return self._schedules[name]

    def set_schedule_state(self, name: str, state: ScheduleState) -> None:
        """Bring back a state of schedule and pin."""
        self[name]
        self._schedules[name] = state
        self._describe(name)

    def apply_schedules(self, step: int) -> tuple[str, ...]:
        """Give scheduled, unpinned controls the values that step `step` runs with. Main thread only.

        Returns
        -------
        names : tuple of str
            The controls whose value changed.
        """
        changed = []
        for name, state in self._schedules.items():
            if state.schedule is None or state.pinned:
                continue
            control = self._controls[name]
            value = self.scheduled(name, step)
            if value != control.get():
                control.set(value)
                self._describe(name)
                changed.append(name)
        return tuple(changed)

    def scheduled(self, name: str, step: int) -> Any:
        """Return what step `step` runs with: the scheduled value, or the present one where none drives it."""
        state = self._schedules[name]
        if state.schedule is None or state.pinned:
            return self._controls[name].get()
        return self._controls[name].fitted(state.schedule.value(step, state.base))

    # --- checkpoints ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return values, schedules, pins and edit counts as plain values for a checkpoint."""
        return {
            name: {
                "value": _plain(control.get()),
                "edits": self._edits[name],
                "schedule": state.schedule.to_dict() if state.schedule is not None else None,
                "base": _plain(state.base),
                "pinned": state.pinned,
            }
            for (name, control), state in zip(self._controls.items(), self._schedules.values(), strict=True)
        }

    def load_state(self, state: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
        """Bring back a state of `state()` and return the names in it that this session does not have."""
        for name, entry in state.items():
            if name not in self._controls:
                continue
            value = entry["value"]
            self._controls[name].set(tuple(value) if isinstance(value, list) else value)
            self._edits[name] = int(entry["edits"])
            schedule = schedule_from_dict(entry["schedule"]) if entry["schedule"] is not None else None
            self.set_schedule_state(name, ScheduleState(schedule, entry["base"], bool(entry["pinned"])))
        return tuple(name for name in state if name not in self._controls)

    def _describe(self, name: str) -> None:
        control, state = self._controls[name], self._schedules[name]
        info = ControlInfo(
            name=name,
            type=control.type,  # type: ignore[arg-type]
            value=_plain(control.get()),
            default=_plain(self._defaults[name]),
            minimum=control.minimum,
            maximum=control.maximum,
            exclusive_minimum=control.exclusive_minimum,
            exclusive_maximum=control.exclusive_maximum,
            choices=control.choices,
            optional=control.optional,
            unit=control.unit,
            help=control.help,
            schedule=state.schedule.describe() if state.schedule is not None else "",
            pinned=state.pinned,
            edits=self._edits[name],
        )
        if self._infos.get(name) != info:
            self._infos[name] = info
            self.version += 1


def _plain(value: Any) -> Any:
    """Return a value that MessagePack and JSON carry: tuples as lists."""
    return list(value) if isinstance(value, (tuple, list)) else value
