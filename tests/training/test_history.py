import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.errors import ElektronnError
from elektronn_tui.training.history import History, HistoryReader, is_network_file_system
from elektronn_tui.training.pyramid import FACTOR, bucketed, level_for, points_to_entries, reduced


def brute_force(steps, values, edges, first):
    """Minimum, mean and maximum of the finite values of each bucket, whose last steps are `edges`."""
    result = []
    before = first - 1
    for edge in edges:
        inside = values[(steps > before) & (steps <= edge)]
        inside = inside[np.isfinite(inside)]
        result.append((inside.min(), inside.mean(), inside.max()) if len(inside) else (np.nan,) * 3)
        before = edge
    return np.array(result).reshape(-1, 3)


def assert_equals_brute_force(curve, steps, values, first, last, width):
    inside = (steps >= first) & (steps <= last)
    assert len(curve.step) <= max(width, 1)
    assert (np.diff(curve.step) > 0).all()
    if not inside.any():
        assert len(curve.step) == 0
        return
    assert curve.step[-1] == steps[inside][-1]
    assert curve.count == np.isfinite(values[inside]).sum()
    expected = brute_force(steps[inside], values[inside], curve.step, first)
    found = np.stack([curve.minimum, curve.mean, curve.maximum], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("history") / "history.sqlite"
    generator = np.random.default_rng(0)
    steps = np.arange(1, 100_001)
    loss = np.exp(-steps / 30_000) + generator.normal(0, 0.1, len(steps))
    loss[generator.integers(0, len(loss), 500)] = np.nan
    loss[40_000:41_500] = np.nan
    history = History(path)
    for step, value in zip(steps.tolist(), loss.tolist(), strict=True):
        history.append(step, step * 0.25, {"loss": value, "error": value / 2} if step % 100 == 0 else {"loss": value})
        if step % 7777 == 0:
            assert history.flush()
    history.close()
    return path, steps, loss


@given(first=st.integers(-5, 100_010), length=st.integers(0, 100_010), width=st.integers(1, 1000))
@settings(max_examples=60, deadline=None)
def test_curves_equal_brute_force(long_run, first, length, width):
    path, steps, loss = long_run
    with HistoryReader(path) as reader:
        for name, every in (("loss", 1), ("error", 100)):
            chosen = steps % every == 0
            values = loss[chosen] / (2 if name == "error" else 1)
            curve = reader.curve(name, first, first + length, width)
            assert_equals_brute_force(curve, steps[chosen], values, first, first + length, width)


def test_whole_curve_uses_the_width_it_was_given(long_run):
    path, _, _ = long_run
    with HistoryReader(path) as reader:
        curve = reader.curve("loss", width=400)
        assert 350 <= len(curve.step) <= 400
        np.testing.assert_allclose(curve.time, curve.step * 0.25)
        assert np.isnan(curve.mean).any(), "a stretch of NaN is a gap"


def test_few_points_come_as_they_are(long_run):
    path, _, loss = long_run
    with HistoryReader(path) as reader:
        curve = reader.curve("loss", 101, 150, width=400)
        assert curve.step.tolist() == list(range(101, 151))
        np.testing.assert_allclose(curve.mean, loss[100:150], rtol=1e-6)


def test_export_is_exact(long_run):
    path, steps, loss = long_run
    with HistoryReader(path) as reader:
        exported_steps, times, values = reader.points("loss")
        np.testing.assert_array_equal(exported_steps, steps)
        np.testing.assert_array_equal(values, loss)
        np.testing.assert_array_equal(times, steps * 0.25)


def test_plain_sql_reads_the_points(long_run):
    path, _, loss = long_run
    connection = sqlite3.connect(path)
    row = connection.execute(
        "SELECT step, value FROM points JOIN metrics ON metrics.id = metric WHERE name = 'loss' AND step = 77"
    ).fetchone()
    connection.close()
    assert row == (77, loss[76])


def test_metrics_are_listed_with_their_last_value(long_run):
    path, _, loss = long_run
    with HistoryReader(path) as reader:
        infos = {info.name: info for info in reader.metrics()}
    assert (infos["loss"].count, infos["loss"].step, infos["loss"].value) == (100_000, 100_000, loss[-1])
    assert infos["error"].count == 1000


@given(cuts=st.lists(st.integers(0, 3000), max_size=5), total=st.integers(1, 3000))
@settings(max_examples=15, deadline=None)
def test_reopening_goes_on_where_it_ended(tmp_path_factory, cuts, total):
    path = tmp_path_factory.mktemp("reopened") / "history.sqlite"
    values = np.sin(np.arange(total + 1))
    bounds = sorted({0, total, *(cut for cut in cuts if cut < total)})
    for low, high in itertools.pairwise(bounds):
        history = History(path)
        for step in range(low + 1, high + 1):
            history.append(step, float(step), {"loss": values[step]})
        history.close()
    steps = np.arange(1, total + 1)
    with HistoryReader(path) as reader:
        for width in (1, 3, 50):
            assert_equals_brute_force(reader.curve("loss", width=width), steps, values[1:], 1, total, width)


def test_values_that_are_not_finite_make_gaps(tmp_path):
    history = History(tmp_path / "history.sqlite")
    for step, value in enumerate([1.0, float("nan"), float("inf"), None, 3.0], start=1):
        history.append(step, 0.0, {"loss": value})
    assert history.flush()
    assert history.metrics()[0].value == 3.0
    with history.reader() as reader:
        assert np.isnan(reader.curve("loss").mean).tolist() == [False, True, True, True, False]
        assert reader.curve("loss", width=1).mean.tolist() == [2.0]
        values = reader.points("loss")[2]
        assert np.isnan(values[1])
        assert values[2] == np.inf
    history.close()


def test_a_step_keeps_its_first_value(tmp_path):
    history = History(tmp_path / "history.sqlite")
    history.append(1, 0.0, {"loss": 1.0})
    history.append(1, 0.0, {"loss": 2.0, "valid_loss": 5.0})
    assert history.flush()
    history.append(1, 0.0, {"loss": 3.0})
    history.append(2, 0.0, {"loss": 4.0})
    history.close()
    with HistoryReader(tmp_path / "history.sqlite") as reader:
        assert reader.points("loss")[2].tolist() == [1.0, 4.0]
        assert reader.points("valid_loss")[2].tolist() == [5.0]


def test_a_killed_run_keeps_what_was_flushed_and_opens_again(tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        from elektronn_tui.training.history import History
        history = History(sys.argv[1])
        for step in range(1, 5001):
            history.append(step, float(step), {"loss": 1.0 / step})
        assert history.flush()
        for step in range(5001, 6001):
            history.append(step, float(step), {"loss": 1.0 / step})
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    path = tmp_path / "history.sqlite"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, env=os.environ, timeout=120)
    assert done.returncode == -signal.SIGKILL
    with History.open_read_only(path) as reader:
        last = reader.metrics()[0].step
        assert last >= 5000
        assert reader.curve("loss", width=10).count == last
    history = History(path)
    history.append(last + 1, 0.0, {"loss": 7.0})
    history.close()
    with History.open_read_only(path) as reader:
        assert reader.points("loss")[2][-1] == 7.0
        assert reader.curve("loss", width=1).count == last + 1


def test_what_is_no_history_says_so(tmp_path):
    with pytest.raises(ElektronnError, match="there is no history"):
        HistoryReader(tmp_path / "nothing.sqlite")
    (tmp_path / "text.sqlite").write_text("not a database, certainly not one of ours" * 10)
    with pytest.raises(ElektronnError, match="not a readable history"):
        HistoryReader(tmp_path / "text.sqlite")
    history = History(tmp_path / "history.sqlite")
    history.append(1, 0.0, {"loss": 1.0})
    history.close()
    with HistoryReader(tmp_path / "history.sqlite") as reader, pytest.raises(ElektronnError, match="mean 'loss'"):
        reader.curve("los")


def test_local_folders_are_not_taken_for_network_ones(tmp_path):
    assert not is_network_file_system(tmp_path)


def test_levels_join_factor_entries():
    entries = points_to_entries(np.arange(20), np.arange(20.0), np.arange(20.0))
    joined, rest = reduced(entries)
    assert len(joined) == 20 // FACTOR
    assert len(rest) == 20 % FACTOR
    assert joined["mean"].tolist() == [3.5, 11.5]
    assert level_for(10_000_000, 400) == 4
    assert len(bucketed(entries, 0, 19, 5)) == 5


def test_a_metric_of_a_history_without_any_is_refused_as_such(tmp_path):
    path = tmp_path / "history.sqlite"
    History(path).close()
    with History.open_read_only(path) as reader, pytest.raises(ElektronnError, match="there is no metric yet"):
        reader.points("loss")


def test_a_console_shows_the_newest_values(tmp_path):
    history = History(tmp_path / "history.sqlite")
    history.append(1, 0.5, {"loss": 0.25, "gap": float("nan")})
    history.flush()
    assert repr(history) == "History(loss 0.25)"
    history.close()
