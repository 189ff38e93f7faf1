"""Experiments found and named without running them."""

from __future__ import annotations

import pytest

from elektronn_tui.errors import ElektronnError, ExperimentError
from elektronn_tui.training.examples import examples, experiment_file, experiment_name, find_example


def test_every_example_says_what_it_is_for():
    assert {"membranes", "fib25"} <= set(examples())
    assert all(example.summary.endswith((".", ".h5.")) for example in examples().values())


def test_an_unknown_example_brings_the_nearest():
    with pytest.raises(ElektronnError, match="Did you mean 'membranes'"):
        find_example("membrans")


def test_a_zoo_name_goes_before_a_file_and_a_file_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "membranes").write_text("")
    (tmp_path / "mine.py").write_text("")
    assert experiment_file("membranes") == find_example("membranes").path
    assert experiment_file("mine.py") == tmp_path / "mine.py"
    with pytest.raises(ExperimentError, match="neither a file nor in the zoo"):
        experiment_file("yours")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("experiment = Experiment(name='night', model=1)", "night"),
        ("import elektronn_tui as e\nexperiment = e.Experiment(model=1, name='night')", "night"),
        ("experiment = Experiment(model=1)", "mine"),
        ("experiment = Experiment(name='', model=1)", "mine"),
        ("experiment = Experiment(name=str(1))", "mine"),
        ("no python (", "mine"),
    ],
)
def test_the_name_is_read_from_the_file(tmp_path, text, name):
    path = tmp_path / "mine.py"
    path.write_text(text)
    assert experiment_name(path) == name
    assert experiment_name(tmp_path / "gone.py") == "gone"
