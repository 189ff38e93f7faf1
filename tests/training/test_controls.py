import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elektronn_tui.errors import ControlError
from elektronn_tui.training.control import Control
from elektronn_tui.training.controls import Controls
from elektronn_tui.training.schedules import Linear, StepDecay, Values


class Store:
    def __init__(self, **values):
        self.values = values

    def control(self, name, type, **more):
        return Control(
            name=name, type=type, get=lambda: self.values[name], set=lambda v: self.values.__setitem__(name, v), **more
        )


@pytest.fixture
def store():
    return Store(
        lr=1e-3,
        batch_size=1,
        frozen=False,
        on_nan="pause",
        mixing=(0.5, 0.5),
        note="",
        betas=(0.9, 0.999),
        weights=(1.0,),
        rate=None,
    )


@pytest.fixture
def controls(store):
    controls = Controls()
    controls.add(store.control("lr", "float", minimum=0, exclusive_minimum=True, help="learning rate"))
    controls.add(store.control("batch_size", "int", minimum=1, maximum=64))
    controls.add(store.control("frozen", "bool"))
    controls.add(store.control("on_nan", "choice", choices=("pause", "rollback", "stop")))
    controls.add(store.control("mixing", "floats", minimum=0, length=2))
    controls.add(store.control("note", "text"))
    controls.add(store.control("betas", "floats", minimum=0, maximum=0.9999999, length=2))
    controls.add(store.control("weights", "floats", minimum=0, length=1))
    controls.add(store.control("rate", "float", optional=True, minimum=0, maximum=1))
    return controls


@pytest.mark.parametrize(
    ("name", "given", "typed"),
    [
        ("lr", "1e-4", 1e-4),
        ("lr", 3, 3.0),
        ("batch_size", "4", 4),
        ("batch_size", "1e1", 10),
        ("batch_size", 2.0, 2),
        ("frozen", "on", True),
        ("frozen", "False", False),
        ("on_nan", "STOP", "stop"),
        ("mixing", "0.25, 0.75", (0.25, 0.75)),
        ("mixing", [1, 2], (1.0, 2.0)),
        ("note", "hello", "hello"),
        ("rate", "none", None),
        ("rate", None, None),
        ("rate", "0.5", 0.5),
    ],
)
def test_parse_gives_the_control_s_type(controls, name, given, typed):
    parsed = controls.parse(name, given)
    assert parsed == typed
    assert type(parsed) is type(typed)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("lr", -1, "lr: -1 is not allowed; it must be a number > 0"),
        ("lr", "0", "lr: 0 is not allowed; it must be a number > 0"),
        ("lr", "fast", "lr: fast is not allowed; it must be a number > 0"),
        ("lr", "nan", "lr: nan is not allowed; it must be finite"),
        ("lr", math.inf, "lr: inf is not allowed; it must be finite"),
        ("lr", True, "lr: True is not allowed; it must be a number > 0"),
        ("lr", "", "lr: an empty text is not allowed; it must be a number > 0"),
        ("lr", None, "lr: None is not allowed; it must be a number > 0"),
        ("batch_size", "1.5", "batch_size: 1.5 is not allowed; it must be a whole number ≥ 1 and ≤ 64"),
        ("batch_size", 65, "batch_size: 65 is not allowed; it must be a whole number ≥ 1 and ≤ 64"),
        ("batch_size", 10**400, "it must be a whole number ≥ 1 and ≤ 64"),
        ("lr", "9" * 400, "it must be finite"),
        ("frozen", "perhaps", "frozen: perhaps is not allowed; it must be true or false"),
        ("on_nan", "puase", "it must be one of pause, rollback, stop. Did you mean 'pause'?"),
        ("mixing", "1", "mixing: 1 is not allowed; it must be 2 numbers, each ≥ 0"),
        ("mixing", "1,-1", "mixing: 1,-1 is not allowed; it must be 2 numbers, each ≥ 0"),
        ("mixing", "1,x", "mixing: 1,x is not allowed"),
        ("note", 3, "note: 3 is not allowed; it must be text"),
        ("rate", 2, "rate: 2 is not allowed; it must be a number ≥ 0 and ≤ 1, or none"),
        ("betas", "0.9,1", "betas: 0.9,1 is not allowed; it must be 2 numbers, each ≥ 0 and ≤ 0.9999999"),
        ("weights", "1,2", "weights: 1,2 is not allowed; it must be one number, ≥ 0"),
        ("l_r", 1, "no control is called 'l_r'. Did you mean 'lr'?"),
    ],
)
def test_refusals_name_control_value_and_limits(controls, store, name, given, message):
    before = dict(store.values)
    for act in (controls.parse, controls.set):
        with pytest.raises(ControlError) as caught:
            act(name, given)
        assert message in str(caught.value)
    assert store.values == before


@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.booleans(), st.lists(st.floats()), st.binary()))
def test_parse_of_anything_is_a_value_within_limits_or_a_control_error(value):
    control = Store(lr=1.0).control("lr", "float", minimum=0, exclusive_minimum=True, maximum=10)
    try:
        parsed = control.parse(value)
    except ControlError:
        return
    assert 0 < parsed <= 10


def test_an_end_of_a_range_that_is_not_allowed_is_said_so():
    control = Store(rate=0.5).control("rate", "float", minimum=0, maximum=1, exclusive_maximum=True)
    assert control.limits() == "a number ≥ 0 and < 1"
    assert control.parse("0.999") == 0.999
    with pytest.raises(ControlError, match="1 is not allowed; it must be a number ≥ 0 and < 1"):
        control.parse("1")


def test_set_returns_old_and_new_counts_the_edit_and_raises_the_version(controls, store):
    version = controls.version
    assert controls.set("lr", "1e-4") == (1e-3, 1e-4)
    assert store.values["lr"] == 1e-4
    assert controls.version > version
    info = controls.info("lr")
    assert (info.value, info.default, info.edits, info.help) == (1e-4, 1e-3, 1, "learning rate")
    assert controls.info("mixing").value == [0.5, 0.5]


def test_refresh_notices_what_a_console_statement_did(controls, store):
    assert not controls.refresh()
    store.values["lr"] = 7.0
    assert controls.refresh()
    assert controls.info("lr").value == 7.0
    assert controls.info("lr").edits == 0


def test_schedule_drives_pins_and_goes_on(controls, store):
    controls.set_schedule("lr", StepDecay(0.5, every=10))
    assert controls.info("lr").schedule == "× 0.5 / 10 steps"
    assert controls.apply_schedules(1) == ()
    assert controls.apply_schedules(11) == ("lr",)
    assert store.values["lr"] == 5e-4
    assert controls.driven("lr")
    controls.set("lr", 0.1)
    controls.pin("lr")
    assert controls.pinned == {"lr"}
    assert not controls.driven("lr")
    assert controls.apply_schedules(21) == ()
    assert store.values["lr"] == 0.1
    controls.unpin("lr")
    controls.apply_schedules(21)
    assert store.values["lr"] == 2.5e-4
    controls.set("lr", 0.1)
    controls.continue_schedule("lr", 25)
    assert controls.apply_schedules(25) == ()
    controls.apply_schedules(31)
    assert store.values["lr"] == pytest.approx(0.05)


def test_schedule_state_brings_back_what_an_edit_did(controls, store):
    controls.set_schedule("lr", StepDecay(0.5, every=10))
    before = controls.schedule_state("lr")
    controls.set("lr", 0.1)
    controls.continue_schedule("lr", 5)
    controls.set_schedule_state("lr", before)
    controls.apply_schedules(11)
    assert store.values["lr"] == 5e-4


def test_schedules_of_whole_numbers_stay_whole(controls, store):
    controls.set_schedule("batch_size", Linear(1, 8, 10))
    controls.apply_schedules(5)
    assert isinstance(store.values["batch_size"], int)


def test_schedules_that_leave_the_limits_are_refused(controls):
    with pytest.raises(ControlError, match="schedule of batch_size: 100 is not allowed"):
        controls.set_schedule("batch_size", Values([(5, 100)]))
    with pytest.raises(ControlError, match="does not fit a control of type text"):
        controls.set_schedule("note", StepDecay(0.5))
    controls.set_schedule("lr", Linear(1e-3, 0.0, 100))


def test_state_comes_back(controls, store):
    controls.set_schedule("lr", StepDecay(0.5, every=10))
    controls.set("lr", 0.1)
    controls.pin("lr")
    controls.set("mixing", "1,2")
    state = controls.state()
    other_store = Store(**dict.fromkeys(store.values, 0))
    other = Controls()
    for name in controls:
        control = controls[name]
        other.add(other_store.control(name, control.type))
    assert other.load_state({**state, "gone": {"value": 1}}) == ("gone",)
    assert other_store.values == store.values
    assert other.pinned == {"lr"}
    assert other.schedule("lr") == StepDecay(0.5, every=10)


def test_a_name_is_given_once(controls, store):
    with pytest.raises(ControlError, match="exists already"):
        controls.add(store.control("lr", "float"))


def test_a_console_shows_all_values(controls):
    controls.set_schedule("lr", StepDecay(0.5, every=10))
    lines = repr(controls).splitlines()
    assert lines[0] == "lr          0.001  × 0.5 / 10 steps"
    assert lines[2] == "frozen      false"
    assert lines[4] == "mixing      0.5, 0.5"
