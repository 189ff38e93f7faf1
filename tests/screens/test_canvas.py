"""The canvas: what the dots, ticks and legend say."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.screens.widgets.axes import (
    format_number,
    format_time,
    log_ticks,
    number_ticks,
    snap,
    step_ticks,
    time_ticks,
)
from elektronn_tui.screens.widgets.canvas import draw
from elektronn_tui.screens.widgets.series import Look, Mark, Series

SIZES = [(80, 24), (120, 40)]


def text(series, width=80, height=12, **kwargs) -> list[str]:
    return [strip.text for strip in draw(series, width, height, **kwargs)]


def dots(rows: list[str]) -> set[tuple[int, int]]:
    """Dots that are set, as (row, column), over all braille characters."""
    bits = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]]
    return {
        (4 * y + dy, 2 * x + dx)
        for y, row in enumerate(rows)
        for x, c in enumerate(row)
        if 0x2800 <= ord(c) <= 0x28FF
        for dy in range(4)
        for dx in range(2)
        if (ord(c) - 0x2800) & bits[dy][dx]
    }


values = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0]), min_size=0, max_size=60)


@settings(max_examples=150, deadline=None)
@given(
    values,
    st.integers(1, 130),
    st.integers(1, 45),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.9]),
    st.sampled_from(["step", "time"]),
    st.booleans(),
)
def test_any_data_fill_any_size(mean, width, height, log_y, band, smoothing, x_axis, plain) -> None:
    array = np.array(mean, np.float64)
    steps = np.arange(1, len(array) + 1) * 7
    series = Series("a", steps, array, array - 1, array + 1, time=steps * 0.3)
    look = Look(log_y, x_axis, band, smoothing, plain)
    strips = draw([series, series], width, height, title="loss", look=look, marks=[Mark(9, 2.0), Mark(1e9)])
    assert len(strips) == height
    assert all(strip.cell_length == width == len(strip.text) for strip in strips)
    assert not plain or all(strip.text.isascii() for strip in strips)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_rising_line_rises(width: int, height: int) -> None:
    rows = text([Series("a", np.arange(500), np.linspace(0, 1, 500))], width, height)
    by_column: dict[int, list[int]] = {}
    for y, x in dots(rows):
        by_column.setdefault(x, []).append(y)
    tops = [min(by_column[x]) for x in sorted(by_column)]
    assert tops == sorted(tops, reverse=True)
    assert tops[0] - tops[-1] >= 4 * (height - 4) * 0.9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=900), st.integers(20, 100))
def test_a_line_has_no_holes(mean: list[float], width: int) -> None:
    # A first series is drawn solid.
    columns = {x for _, x in dots(text([Series("a", np.arange(len(mean)), mean)], width, 12))}
    assert columns == set(range(min(columns), max(columns) + 1))


def test_extremes_are_seen_in_the_band_of_any_number_of_buckets() -> None:
    mean = np.zeros(5000)
    high = mean + 0.1
    high[2500] = 5.0
    rows = text([Series("a", np.arange(5000), mean, mean - 0.1, high)], 80, 20)
    top = min(y for y, _ in dots(rows))
    assert top <= 4 * 2 + 3


def test_a_spike_of_one_bucket_does_not_press_the_curve_flat() -> None:
    mean = np.linspace(1.0, 0.0, 500)
    high = mean + 0.1
    high[250] = 1000.0
    rows = text([Series("a", np.arange(500), mean, mean - 0.1, high)], 80, 20)
    assert len({y for _, y in dots(rows)}) > 40


def test_without_the_band_the_range_is_that_of_the_means() -> None:
    mean = np.linspace(0, 1, 50)
    series = Series("a", np.arange(50), mean, mean - 1, mean + 90)
    assert any("80" in row[:6] for row in text([series], 80, 20))
    assert not any("80" in row[:6] for row in text([series], 80, 20, look=Look(band=False))[:-1])


def test_nan_makes_a_gap() -> None:
    mean = np.linspace(0, 1, 60)
    mean[20:40] = np.nan
    columns = {x for _, x in dots(text([Series("a", np.arange(60), mean)], 80, 12))}
    low, high = min(columns), max(columns)
    middle = [x for x in range(low + (high - low) * 2 // 5, low + (high - low) * 3 // 5) if x in columns]
    assert middle == []


def test_one_point_constant_series_and_none() -> None:
    assert len(dots(text([Series("a", [5], [0.3])]))) >= 2
    constant = dots(text([Series("a", np.arange(30), np.full(30, 0.3))]))
    assert len({y for y, _ in constant}) == 1
    assert any("no data" in row for row in text([]))
    assert any("no data" in row for row in text([Series("a", [1, 2], [np.nan, np.nan])]))
    assert any("no positive" in row for row in text([Series("a", [1, 2], [-1.0, -2.0])], look=Look(log_y=True)))


def test_title_legend_and_current_values() -> None:
    steps = np.arange(10)
    rows = text([Series("train", steps, steps * 0.1), Series("valid", steps, steps, last=0.5)], title="loss")
    assert rows[0].startswith("loss")
    assert "━━ train 0.9" in rows[0]
    assert "╍╍ valid 0.5" in rows[0]
    assert "log" in text([Series("a", steps + 1, steps + 1)], look=Look(log_y=True))[0]


def test_series_differ_in_colour_and_without() -> None:
    steps = np.arange(200)
    strips = [draw([Series("x", steps, steps)] * n, 80, 12) for n in (1, 2)]
    first = {s.style.color.name for s in strips[0][5] if s.style and s.style.color and "⠁" <= s.text.strip()[:1] <= "⣿"}
    both = [Series("a", steps, np.zeros(200)), Series("b", steps, np.ones(200))]
    found = {}
    for strip in draw(both, 80, 12):
        for segment in strip:
            if segment.style and segment.style.color and any("⠁" <= c <= "⣿" for c in segment.text):
                found.setdefault(segment.style.color.name, []).append(segment.text)
    assert len(found) == 2
    assert first <= set(found)
    lower, upper = (
        {x for y, x in dots([strip.text for strip in draw(both, 80, 12)]) if (y > 24) is below}
        for below in (True, False)
    )
    assert len(upper) < 0.8 * len(lower), "the second line is dashed"


def test_marks_stand_below_their_steps() -> None:
    steps = np.arange(1001)
    rows = text([Series("a", steps, steps)], 86, 12, marks=[Mark(400), Mark(5000)])
    (place,) = [x for x, c in enumerate(rows[-2]) if c == "▲"]
    assert rows[-1].index("400") <= place <= rows[-1].index("400") + 3
    assert text([Series("a", steps, steps)], 80, 6, marks=[Mark(500)])[-2].count("▲") == 1


def test_a_time_axis_leaves_out_what_has_no_time() -> None:
    steps = np.arange(100)
    timed = Series("timed", steps, steps, time=steps * 60.0)
    rows = text([timed, Series("untimed", steps, steps)], look=Look(x_axis="time"))
    assert "no times" in rows[0]
    assert "h" in rows[-1]


def test_smoothing_is_unbiased_and_keeps_the_gaps() -> None:
    level = dots(text([Series("a", np.arange(50), np.full(50, 3.0))], look=Look(smoothing=0.97)))
    assert len({y for y, _ in level}) <= 2
    noisy = np.tile([0.0, 1.0], 100)
    rows = dots(text([Series("a", np.arange(200), noisy)], 120, 20, look=Look(smoothing=0.97)))
    late = [y for y, x in rows if x > 120]
    assert max(late) - min(late) < 12


def test_ranges_stay_while_data_grow_inside_them() -> None:
    one, two = (text([Series("a", np.arange(n), np.sin(np.arange(n) / 9))], 100, 20) for n in (905, 909))
    changed = sum(a != b for a, b in zip("".join(one), "".join(two), strict=True))
    assert one[-1] == two[-1]
    assert changed < 60


@given(st.floats(-1e8, 1e8), st.floats(1e-6, 1e8), st.integers(2, 12))
def test_ticks_are_round_inside_and_few(low: float, span: float, count: int) -> None:
    low, high = snap(low, low + span, count)
    ticks = number_ticks(low, high, count)
    assert len(ticks) <= 2 * count + 2
    assert all(low - 1e-6 * (high - low) <= value <= high + 1e-6 * (high - low) for value, _ in ticks)
    assert all(len(label) <= 16 for _, label in ticks)


@given(st.floats(-1e5, 1e5), st.floats(0, 1e5), st.integers(2, 12))
def test_snap_contains_the_data(low: float, span: float, count: int) -> None:
    new_low, new_high = snap(low, low + span, count)
    assert new_low <= low + 1e-6 * max(span, 1)
    assert new_high >= low + span - 1e-6 * max(span, 1)
    assert new_low < new_high


def test_no_tick_lies_between_two_steps() -> None:
    assert [label for _, label in step_ticks(1, 3.5, 6)] == ["1", "2", "3"]
    assert step_ticks(0, 20000, 4) == number_ticks(0, 20000, 4)
    axis = text([Series("a", np.arange(1, 4), np.arange(3))], 100, 20)[-1]
    assert axis.split() == ["1", "2", "3"]


def test_labels() -> None:
    assert [label for _, label in number_ticks(0, 1, 5)] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [label for _, label in number_ticks(0, 20000, 4)] == ["0", "5k", "10k", "15k", "20k"]
    assert [label for _, label in log_ticks(1e-4, 1, 5)] == ["1e-4", "0.001", "0.01", "0.1", "1"]
    assert [label for _, label in time_ticks(0, 7200, 4)] == ["0s", "30m", "1h", "1h30", "2h"]
    assert [format_time(s) for s in (59, 90, 5400, 90000)] == ["59s", "1m30", "1h30", "1d01"]
    assert [format_number(v) for v in (0.1234567, 1.5e-5, 12345.0, 0.0, math.nan, 1e9)] == [
        "0.1235",
        "1.5e-5",
        "12345",
        "0",
        "nan",
        "1e9",
    ]


def test_the_widgets_import_no_numpy() -> None:
    code = (
        "import sys; from elektronn_tui.screens.widgets import *; import elektronn_tui.screens.widgets.canvas;"
        "bad = {'numpy', 'torch', 'numba', 'h5py', 'jedi', 'pygments.lexers.python'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
