"""A disk that goes away while training: tried again, then a clear stop that loses nothing."""

import logging

import h5py
import numpy as np
import pytest

from elektronn_tui.errors import DataError
from elektronn_tui.training import retrying
from elektronn_tui.training.datasets import Volumes
from elektronn_tui.training.retrying import PAUSES, may_pass, retried
from elektronn_tui.training.runner import build


def gone(cause):
    try:
        try:
            raise cause
        except type(cause) as reason:
            raise DataError("v.h5:raw: can't be read") from reason
    except DataError as error:
        return error


@pytest.mark.parametrize("cause", [OSError(5, "I/O"), PermissionError(), TimeoutError(), RuntimeError("h5py")])
def test_what_a_disk_refuses_may_pass(cause):
    assert may_pass(gone(cause))
    wrapped = DataError("pair v")
    wrapped.__cause__ = gone(cause)
    assert may_pass(wrapped)
    assert not may_pass(DataError("NaN"))
    assert not may_pass(gone(ValueError("shape")))


class Failing:
    """Makes numbers, after some failures."""

    def __init__(self, failures, error):
        self.failures, self.error, self.calls = failures, error, []

    def __call__(self, number):
        self.calls.append(number)
        if len(self.calls) <= self.failures:
            raise self.error
        return number * 10


def test_it_is_tried_again_after_growing_pauses(caplog):
    paused, make = [], Failing(len(PAUSES), gone(OSError(5, "I/O")))
    assert retried(make, logging.getLogger("tests"), paused.append)(7) == 70
    assert make.calls == [7] * (len(PAUSES) + 1)
    assert paused == sorted(PAUSES)
    assert "v.h5:raw: can't be read; trying again in 0.1 s" in caplog.text


def test_in_the_end_it_is_given_up():
    paused, make = [], Failing(99, gone(OSError(5, "I/O")))
    with pytest.raises(DataError, match="can't be read") as caught:
        retried(make, logging.getLogger("tests"), paused.append)(7)
    assert caught.value.__notes__[-1] == "tried 4 times in 2.6 s"
    assert len(make.calls) == len(PAUSES) + 1


@pytest.mark.parametrize("error", [DataError("label 7"), ValueError("bug"), gone(ValueError("shape"))])
def test_what_will_not_pass_is_raised_at_once(error):
    make = Failing(1, error)
    with pytest.raises(type(error)):
        retried(make, logging.getLogger("tests"), pytest.fail)(7)
    assert make.calls == [7]


class FileData:
    """A volume in a file that is read box by box."""

    def __init__(self, path):
        self.path = path

    def open(self):
        from elektronn_tui.data import Pair

        return Volumes([Pair(f"{self.path}:raw", f"{self.path}:labels", in_memory=False)])


@pytest.fixture
def file(tmp_path):
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["raw"] = rng.integers(0, 255, (8, 40, 40), dtype=np.uint8)
        file["labels"] = rng.integers(0, 2, (8, 40, 40), dtype=np.uint8)
    return tmp_path / "v.h5"


def close(trainer):
    for pair in trainer.supply.pairs:
        pair.close()


def losses(session):
    return session.metrics["loss"]


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_halt_for_a_vanished_file_loses_no_example(threads, file, make_session, make_experiment, monkeypatch, caplog):
    monkeypatch.setattr(retrying, "PAUSES", (0.0, 0.0))
    settings = {"data": FileData(file), "steps": 12, "data_threads": threads, "on_error": "halt", "warp": 1.0}
    undisturbed = make_session("undisturbed")
    build(make_experiment(**settings), undisturbed).run()

    session = make_session("disturbed")
    trainer = build(make_experiment(**settings), session)
    away = file.with_name("away.h5")

    def vanish(session):
        file.rename(away)
        close(trainer)
        trainer.prefetcher.invalidate(trainer.batches + 1)

    session.at = {4: vanish, 5: vanish}
    reasons = []

    def halt(error):
        reasons.append(str(error))
        if len(reasons) % 2 == 0:  # the first time nobody mended anything
            away.rename(file)
        return True

    session.halt = halt
    with caplog.at_level("INFO"):
        trainer.run()
    assert len(reasons) == 4
    assert all("v.h5 doesn't exist" in reason for reason in reasons)
    assert "v.h5 doesn't exist; trying again in 0 s" in caplog.text
    assert losses(session) == losses(undisturbed)
    assert trainer.example == 12
    assert "data: " in caplog.text


def test_a_file_that_is_back_in_time_is_not_even_a_halt(file, make_session, make_experiment, monkeypatch, caplog):
    settings = {"data": FileData(file), "steps": 8, "data_threads": 1}
    session = make_session()
    trainer = build(make_experiment(**settings), session)
    away, real = file.with_name("away.h5"), retrying.may_pass

    def back(error):
        if away.exists():
            away.rename(file)
        return real(error)

    monkeypatch.setattr(retrying, "may_pass", back)

    def vanish(session):
        file.rename(away)
        close(trainer)
        trainer.prefetcher.invalidate(trainer.batches + 1)

    session.at = {3: vanish}
    trainer.run()
    assert session.halts == []
    assert sorted(losses(session)) == list(range(1, 9))
    assert "trying again" in caplog.text


def test_the_end_of_a_run_tells_what_its_data_cost(file, make_session, make_experiment, caplog):
    session = make_session()
    trainer = build(make_experiment(data=FileData(file), steps=5), session)
    with caplog.at_level("INFO"):
        trainer.run()
    stats = session.namespace["datastats"]()
    assert stats.examples >= 5
    assert {source.name.rpartition(":")[2] for source in stats.sources} == {"raw", "labels"}
    assert stats.waited == trainer.prefetcher.stats.waited > 0
    assert f"data: {stats.summary}" in caplog.text
    assert "the loop waited" in stats.summary
