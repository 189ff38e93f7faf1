import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elektronn_tui.errors import ExperimentError
from elektronn_tui.training.control import Control
from elektronn_tui.training.controls import Controls
from elektronn_tui.training.schedules import (
    SCHEDULES,
    Alternate,
    Cosine,
    Linear,
    OneCycle,
    Polynomial,
    StepDecay,
    Values,
    WarmUp,
    schedule_from_dict,
)
from elektronn_tui.training.schedules.elektronn2 import as_schedule

steps = st.integers(1, 10_000)
rates = st.floats(1e-6, 10.0)


@given(steps, st.integers(1, 3000), st.floats(0.5, 1.5), rates)
def test_step_decay_is_its_closed_form(step, every, factor, base):
    exponent = (step - 1) // every
    expected = math.log(base) + exponent * math.log(factor)
    if abs(expected) < 600:
        assert math.isclose(math.log(StepDecay(factor, every).value(step, base)), expected, abs_tol=1e-6)
    else:
        assert StepDecay(factor, every).value(step, base) >= 0


def test_step_decay_changes_after_a_thousand_steps():
    decay = StepDecay(0.5)
    assert [decay.value(step, 1.0) for step in (1, 1000, 1001, 2001)] == [1.0, 1.0, 0.5, 0.25]


@given(st.integers(1, 5000), rates, rates)
def test_linear_reaches_its_end_for_any_length(length, start, end):
    line = Linear(start, end, length)
    assert line.value(length, 99.0) == end
    assert line.value(length + 1, 99.0) == end
    if length > 1:
        assert line.value(1, 99.0) == start
        middle = line.value((1 + length) // 2, 0.0)
        assert min(start, end) - 1e-12 <= middle <= max(start, end) + 1e-12


def test_linear_takes_the_base_where_no_start_is_given():
    assert Linear(None, 0.0, 11).value(6, 4.0) == 2.0


def test_values_hold_until_the_next_and_keep_their_type():
    values = Values([(10, 3), (20, [0.5, 0.5]), (30, False)])
    assert [values.value(step, "base") for step in (1, 9, 10, 19, 25, 1000)] == [
        "base",
        "base",
        3,
        3,
        (0.5, 0.5),
        False,
    ]
    assert isinstance(values.value(10, None), int)


@given(steps, rates, rates, st.integers(0, 500), st.integers(501, 9000))
def test_cosine_is_its_closed_form(step, start, end, warmup, length):
    value = Cosine(start, end, length, warmup).value(step, 0.0)
    if step < warmup:
        expected = start * step / warmup
    elif step >= length:
        expected = end
    else:
        first = max(warmup, 1)
        phase = math.pi * max(step - first, 0) / (length - first)
        expected = end + (start - end) * (1 + math.cos(phase)) / 2
    assert math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12)


@given(
    st.sampled_from(
        [
            StepDecay(0.9, 10),
            Linear(1.0, 0.1, 500),
            Cosine(1.0, 0.1, 500, 20),
            Values([(5, 0.5), (90, 0.25)]),
            Values([(5, 0.5), (90, 0.25)], factor=0.9, every=10),
            Polynomial(1.0, 0.1, 500, 2.0),
            OneCycle(1.0, 500),
            WarmUp(100, StepDecay(0.9, 30)),
            WarmUp(600),
            Alternate([1.0, 2.0], 7),
        ]
    ),
    st.integers(1, 450),
    st.floats(1e-3, 5.0),
)
def test_continued_passes_through_the_new_value(schedule, step, new):
    continued, base = schedule.continued(step, new, 1.0)
    assert math.isclose(continued.value(step, base), new, rel_tol=1e-6)


@given(st.integers(1, 498), st.floats(1e-3, 5.0))
def test_continued_line_still_reaches_its_end(step, new):
    continued, base = Linear(1.0, 0.1, 500).continued(step, new, 1.0)
    assert continued.value(500, base) == 0.1


def test_continued_decay_keeps_its_pace():
    continued, base = StepDecay(0.5, 10).continued(15, 8.0, 1.0)
    assert continued.value(25, base) == 4.0


@pytest.mark.parametrize(
    "schedule",
    [
        StepDecay(0.9, 7),
        Linear(None, 0.0, 10),
        Values([(3, [1.0, 2.0]), (4, True)]),
        Values([(3, 1.0)], factor=0.9, every=5),
        Cosine(1.0, 0.0, 10, 3),
        Polynomial(None, 0.0, 10),
        OneCycle(None, 10),
        WarmUp(3, WarmUp(4, Linear(1.0, 0.0, 9))),
        Alternate([[0.0, 1.0], [1.0, 0.0]], 2),
    ],
)
def test_round_trip_through_plain_values(schedule):
    assert schedule_from_dict(schedule.to_dict()) == schedule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay(0), "factor=0 is not allowed; it must be > 0"),
        (lambda: StepDecay(math.nan), "factor=nan is not allowed; it must be a finite number"),
        (lambda: StepDecay(0.9, 0), "every=0 is not allowed"),
        (lambda: Linear("a", 1, 2), "start='a' is not allowed"),
        (lambda: Linear(1, 1, 2.5), "steps=2.5 is not allowed"),
        (lambda: Values([]), "must be a list such as"),
        (lambda: Values([(5, 1.0), (5, 2.0)]), "the steps must rise"),
        (lambda: Values([(5, 1.0, 2.0)]), "must be a pair"),
        (lambda: Values([(5, math.inf)]), "must be a finite number"),
        (lambda: Cosine(1.0, 0.0, 10, 10), "must be less than steps=10"),
        (lambda: Values([(5, True)], factor=0.5), "value at step 5=True is not allowed"),
        (lambda: Values([(5, 1.0)], factor=0), "factor=0 is not allowed"),
        (lambda: Polynomial(1.0, 0.0, 10, 0), "power=0 is not allowed"),
        (lambda: OneCycle(1.0, 10, rise=1), "rise=1 is not allowed; it must be > 0 and < 1"),
        (lambda: OneCycle(1.0, 10, last=0), "last=0 is not allowed"),
        (lambda: WarmUp(0), "steps=0 is not allowed"),
        (lambda: WarmUp(5, 0.1), "then=0.1 is not allowed; it must be a schedule"),
        (lambda: Alternate([1.0]), "it must be a list of values"),
        (lambda: schedule_from_dict({"kind": "Cosin"}), "Did you mean 'Cosine'"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(make, message):
    with pytest.raises(ExperimentError, match=message):
        make()


@given(steps, st.integers(2, 5000), rates, rates, st.floats(0.2, 4.0))
def test_polynomial_is_its_closed_form(step, length, start, end, power):
    value = Polynomial(None, end, length, power).value(step, start)
    done = min((step - 1) / (length - 1), 1.0)
    assert math.isclose(value, end + (start - end) * (1 - done) ** power, rel_tol=1e-9, abs_tol=1e-9)


def test_one_cycle_rises_to_its_peak_and_ends_below_its_start():
    cycle = OneCycle(None, 101, rise=0.3, first=0.1, last=0.01)
    curve = [cycle.value(step, 2.0) for step in range(1, 121)]
    assert math.isclose(curve[0], 0.2)
    assert math.isclose(curve[30], 2.0)  # step 31, three tenths of the way
    assert math.isclose(curve[100], 0.02)
    assert curve[100:] == [curve[100]] * 20
    assert all(a < b for a, b in itertools.pairwise(curve[:31]))
    assert all(a > b for a, b in itertools.pairwise(curve[30:101]))
    assert math.isclose(curve[15], (0.2 + 2.0) / 2)  # half a cosine


def test_warm_up_grows_into_another_schedule():
    warm = WarmUp(4, StepDecay(0.5, 3))
    assert [warm.value(step, 8.0) for step in range(1, 8)] == [2.0, 4.0, 6.0, 4.0, 4.0, 4.0, 2.0]
    assert [WarmUp(4).value(step, 8.0) for step in (1, 4, 9)] == [2.0, 8.0, 8.0]


def test_values_may_take_turns_and_keep_their_type():
    turns = Alternate([True, [0.5, 1.0], 3], every=2)
    assert [turns.value(step, None) for step in range(1, 8)] == [True, True, (0.5, 1.0), (0.5, 1.0), 3, 3, True]


def test_listed_values_may_decay_in_between():
    values = Values([(4, 10.0), (8, 2.0)], factor=0.5, every=2)
    assert [values.value(step, 8.0) for step in range(1, 11)] == [8, 8, 4, 10, 10, 5, 5, 2, 2, 1]


@pytest.mark.parametrize("cls", SCHEDULES.values())
def test_every_schedule_stays_within_its_extremes(cls):
    examples = {
        "StepDecay": (0.9, 3),
        "Linear": (2.0, 0.5, 20),
        "Polynomial": (2.0, 0.5, 20),
        "Values": ([(3, 2.0), (9, 4.0)], 0.5, 2),
        "Alternate": ([1.0, 3.0],),
        "Cosine": (2.0, 0.5, 20, 4),
        "OneCycle": (2.0, 20, 0.3, 1.5, 0.1),
        "WarmUp": (5, Linear(2.0, 0.5, 20)),
    }
    schedule = cls(*examples[cls.__name__])
    curve = [schedule.value(step, 1.5) for step in range(1, 40)]
    assert min(schedule.extremes(1.5)) <= min(curve)
    assert max(curve) <= max(schedule.extremes(1.5))
    assert schedule.describe()
    held = {"rate": 1.5}
    controls = Controls()
    controls.add(
        Control(name="rate", type="float", get=lambda: held["rate"], set=lambda v: held.update(rate=v), minimum=0)
    )
    controls.set_schedule("rate", schedule)
    used = []
    for step in range(1, 40):
        controls.apply_schedules(step)
        used.append(held["rate"])
    assert used == curve


# --- as ELEKTRONN2 writes them ----------------------------------------------------------------------


def test_elektronn2_s_dictionaries():
    assert as_schedule("lr", {"dec": 0.995}) == StepDecay(0.995, 1000)
    assert as_schedule("lr", {"lindec": [4500, 1e-3]}) == Linear(1e-3, 0.0, 4500)
    assert as_schedule("lr", {"updates": [(8000, 1e-4), (0, 1e-3)]}) == Values([(1, 1e-3), (8000, 1e-4)])
    assert as_schedule("lr", {"dec": 0.9, "updates": [(10, 0.5)]}) == Values([(10, 0.5)], 0.9, 1000)
    assert as_schedule("w", {"permut": [500, [0.0, 1.0]]}) == Alternate([0.0, 1.0], 500)
    assert as_schedule("lr", {"dec": None}) is as_schedule("lr", {}) is as_schedule("lr", None) is None
    assert as_schedule("lr", StepDecay(0.5)) == StepDecay(0.5)


def test_its_line_reaches_its_end_for_any_length():
    line = as_schedule("lr", {"lindec": [1500, 3.0]})
    assert (line.value(1, 0.0), line.value(1500, 0.0)) == (3.0, 0.0)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"decay": 0.9}, "schedules: lr: no schedule is called 'decay'; known: dec, lindec, updates, permut"),
        ({"dec": 0.9, "lindec": [1, 1]}, "dec and lindec don't go together"),
        ({"dec": "fast"}, "factor='fast' is not allowed"),
        ({"lindec": 5}, r"lindec: 5 is not allowed; it must be a pair such as \[40000"),
        ({"updates": [5, 1e-3]}, "each entry must be a pair"),
        ({"updates": [(5, 1e-3), (5, 1e-4)]}, "the steps must rise"),
        (0.9, "schedules: lr: 0.9 is not allowed; it must be a schedule such as"),
    ],
)
def test_its_dictionaries_are_checked(description, message):
    with pytest.raises(ExperimentError, match=message):
        as_schedule("lr", description)


def test_its_names_drive_all_nodes(make_session, make_experiment):
    from elektronn_tui.models import AggregateLoss, Conv, Input, Input_like, Model, MultinoulliNLL, Softmax
    from elektronn_tui.training.experiment import Optimiser
    from elektronn_tui.training.runner import build

    def create_model():
        raw = Input((1, 1, 3, 15, 15), "b,f,z,y,x", name="raw")
        out = Conv(Conv(raw, 2, (1, 5, 5), dropout_rate=0.5), 2, (3, 3, 3), dropout_rate=0.5)
        probs = Softmax(Conv(out, 2, (1, 1, 1), activation_func="lin"), name="probs")
        target = Input_like(probs, override_f=1, dtype="int64", name="target")
        nll = [MultinoulliNLL(probs, target, target_is_sparse=True) for _ in range(2)]
        return Model(input_node=raw, target_node=target, loss_node=AggregateLoss(nll), prediction_node=probs)

    schedules = {
        "dropout_rates": {"updates": [(2, [0.25, 0.125]), (3, 0.0)]},
        "mom": {"dec": 0.5},
        "mixing": {"updates": [(2, [0.25, 0.75])]},
        "lr": {"lindec": [3, 0.5]},
    }
    session = make_session()
    build(make_experiment(model=create_model, optimiser=Optimiser("SGD"), schedules=schedules), session).run()
    controls = session.controls
    driven = {name for name in controls if controls.driven(name)}
    mixing = next(name for name in controls if name.endswith(".mixing"))
    assert driven == {"conv.dropout_rate", "conv1.dropout_rate", "momentum", mixing, "lr"}
    rates = [controls.scheduled(f"{node}.dropout_rate", 2) for node in ("conv", "conv1")]
    assert rates == [0.25, 0.125]
    assert controls.scheduled("conv1.dropout_rate", 3) == 0.0
    assert controls[mixing].get() == (0.25, 0.75)
    assert controls["lr"].get() == 0.0
    for wrong, message in [
        ({"dropout_rates": {"updates": [(2, [0.1])]}}, "there are 1 values; it must be 2"),
        ({"*.gamma": StepDecay(0.5)}, r"no control is called like \*.gamma"),
        ({"gradnet_rates": {"dec": 0.9}}, "no control is called like"),
    ]:
        with pytest.raises(ExperimentError, match=message):
            build(make_experiment(model=create_model, schedules=wrong), make_session(message[-9:]))
    with pytest.raises(ExperimentError, match="mom: Adam has no momentum"):
        build(make_experiment(schedules={"mom": {"dec": 0.5}}), make_session("adam"))
