"""Edits go back and forth, whatever the order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.errors import ControlError
from elektronn_tui.session.edits import Edit, Edits
from elektronn_tui.training.control import Control
from elektronn_tui.training.controls import Controls
from elektronn_tui.training.schedules import StepDecay

NAMES = ("a", "b", "scheduled")


def make() -> tuple[Controls, Edits, dict[str, float]]:
    values = dict.fromkeys(NAMES, 1.0)
    controls = Controls()
    for name in NAMES:
        controls.add(
            Control(
                name=name,
                type="float",
                get=lambda name=name: values[name],
                set=lambda value, name=name: values.__setitem__(name, value),
                minimum=0,
                maximum=100,
            )
        )
    controls.set_schedule("scheduled", StepDecay(0.5, every=10))
    return controls, Edits(controls), values


def state(controls: Controls) -> Any:
    return [(info.name, info.value, info.pinned, controls.schedule_state(info.name)) for info in controls.infos()]


def nothing(edit: Edit) -> None:
    """Record nothing."""


several = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 100), min_size=1)
an_edit = st.tuples(st.just("set"), several, st.sampled_from(["pin", "continue"]))
a_move = st.tuples(st.sampled_from(["undo", "redo", "unpin"]), st.none(), st.none())


@given(st.lists(an_edit | a_move, max_size=30))
@settings(max_examples=300, deadline=None)
def test_undo_and_redo_walk_through_the_states_that_were(moves: list[Any]) -> None:
    controls, edits, _ = make()
    past, future = [state(controls)], []
    for step, (kind, values, schedule) in enumerate(moves, 1):
        try:
            if kind == "set":
                edits.set(values, schedule, step, nothing)
            elif kind == "unpin":
                edits.unpin("scheduled", nothing)
            else:
                getattr(edits, kind)(nothing)
        except ControlError:
            assert (kind == "undo" and len(past) == 1) or (kind == "redo" and not future) or kind == "unpin"
            continue
        if kind in ("set", "unpin"):
            past.append(state(controls))
            future.clear()
        elif kind == "undo":
            future.append(past.pop())
        else:
            past.append(future.pop())
        assert state(controls) == past[-1]
        assert bool(edits.undo_text) == (len(past) > 1)
        assert bool(edits.redo_text) == bool(future)
    while len(past) > 1:
        edits.undo(nothing)
        past.pop()
        assert state(controls) == past[-1]


def test_texts_say_what_undo_and_redo_would_do() -> None:
    _, edits, _ = make()
    edits.set({"a": 0.0001234567, "b": 2}, "", 1, nothing)
    assert edits.undo_text == "a 1 → 0.000123457; b 1 → 2"
    edits.undo(nothing)
    assert (edits.undo_text, edits.redo_text) == ("", "a 1 → 0.000123457; b 1 → 2")


def test_all_are_set_or_none() -> None:
    controls, edits, values = make()

    def broken(value: float) -> None:
        raise ControlError("b: the optimiser refused")

    object.__setattr__(controls["b"], "set", broken)
    with pytest.raises(ControlError, match="refused"):
        edits.set({"a": 5.0, "b": 2.0}, "", 1, nothing)
    assert values["a"] == 1.0
    assert edits.undo_text == ""


def test_what_can_not_be_recorded_did_not_happen() -> None:
    controls, edits, _ = make()
    edits.set({"a": 5.0}, "", 1, nothing)
    before = state(controls)

    def full(edit: Edit) -> None:
        raise OSError("disk full")

    for move in (lambda: edits.set({"a": 6.0}, "", 2, full), lambda: edits.undo(full)):
        with pytest.raises(OSError, match="disk full"):
            move()
        assert state(controls) == before
        assert edits.undo_text == "a 1 → 5"


def test_a_value_at_the_end_of_its_range_can_be_brought_back() -> None:
    controls, edits, values = make()
    control = controls["a"]
    object.__setattr__(control, "exclusive_minimum", True)
    values["a"] = 0.0  # where a schedule led it
    edits.set({"a": 3.0}, "", 1, nothing)
    edits.undo(nothing)
    assert values["a"] == 0.0
