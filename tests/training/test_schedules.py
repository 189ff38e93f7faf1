import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elektronn_tui.errors import ExperimentError
from elektronn_tui.training.schedules import Cosine, Linear, StepDecay, Values, schedule_from_dict

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
        [StepDecay(0.9, 10), Linear(1.0, 0.1, 500), Cosine(1.0, 0.1, 500, 20), Values([(5, 0.5), (90, 0.25)])]
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
    [StepDecay(0.9, 7), Linear(None, 0.0, 10), Values([(3, [1.0, 2.0]), (4, True)]), Cosine(1.0, 0.0, 10, 3)],
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
        (lambda: schedule_from_dict({"kind": "Cosin"}), "Did you mean 'Cosine'"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(make, message):
    with pytest.raises(ExperimentError, match=message):
        make()
