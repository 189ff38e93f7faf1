"""Sequences as an experiment's data, and the experiments of the zoo that learn from them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import elektronn_tui
from elektronn_tui import SequenceData
from elektronn_tui.data import PIANO_NOTES
from elektronn_tui.errors import DataError, ExperimentError
from elektronn_tui.models import Model, load_model
from elektronn_tui.models.zoo import gru, lstm, piano
from elektronn_tui.training.batches import Feeder


def test_the_target_is_the_step_after_the_last() -> None:
    data = SequenceData(length=7, examples=5, valid_examples=3, noise=0).open()
    assert data.train.shape == (5, 7, PIANO_NOTES)
    assert (data.train_target.shape, data.train_target.dtype) == ((5, PIANO_NOTES), np.int64)
    longer = SequenceData(length=8, examples=5, valid_examples=3, noise=0).open()
    np.testing.assert_array_equal(longer.train[:, 7], data.train_target)
    np.testing.assert_array_equal(longer.valid[:, :7], data.valid)
    assert not any((data.train == part).all((1, 2)).any() for part in data.valid)


def test_steps_may_come_as_one_vector() -> None:
    flat, whole = (SequenceData(length=4, examples=3, valid_examples=0, flat=flag).open() for flag in (True, False))
    np.testing.assert_array_equal(flat.train, whole.train.reshape(3, -1))
    assert flat.valid is None


def test_it_is_a_public_name() -> None:
    assert elektronn_tui.SequenceData is SequenceData


@pytest.mark.parametrize(
    ("example", "params"),
    [
        (gru, 808 * 2250 + 2250 + 750 + 750 * 116 + 116),
        (lstm, 558 * 2000 + 2000 + 1000 + 1000 * 116 + 116),
        (piano, 1160 * 700 + 700 + 700 * 500 + 500 + 500 * 300 + 300 + 300 * 116 + 116),
    ],
)
def test_examples_of_the_zoo_are_built_fed_and_stored(example: object, params: int, tmp_path: object) -> None:
    torch.manual_seed(0)
    model: Model = example.create_model()  # type: ignore[attr-defined]
    assert model.param_count == params
    settings = example.experiment.data  # type: ignore[attr-defined]
    data = SequenceData(length=settings.length, examples=3, valid_examples=0, flat=settings.flat).open()
    feeds = Feeder(model, torch.device("cpu"))({"raw": data.train, "target": data.train_target})
    loss, errors, notes = model.compute(model.prediction_ext, feeds)
    assert notes.shape == (3, 2 * PIANO_NOTES)
    assert 0 <= float(errors) <= 1
    # A bit a key at the start, times weights of 0.2 for silence and 1.8 for a note; more behind layers of relu.
    sounding = data.train_target.mean()
    expected = np.log(2) * (0.2 * (1 - sounding) + 1.8 * sounding)
    assert 0.5 * expected < float(loss.detach()) < 4 * expected
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.module.parameters())
    path = f"{tmp_path}/model.safetensors"
    model.save(path)
    again = load_model(path)
    assert again["nll"].class_weights == [0.2, 1.8] * PIANO_NOTES
    x = feeds[model.input_node.name].numpy()
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def tunes_file(path: Path, rolls: np.ndarray) -> str:
    with h5py.File(path, "w") as file:
        file["rolls"] = rolls
    return str(path)


def test_tunes_of_a_file_are_cut_into_pieces_that_do_not_overlap(tmp_path: Path) -> None:
    rolls = (np.arange(3 * 17 * 5).reshape(3, 17, 5) * 7 % 11 < 4).astype(np.uint8)
    path = tunes_file(tmp_path / "tunes.h5", rolls)
    data = SequenceData(path=path, length=7, valid_examples=2).open()
    assert (data.train.shape, data.valid.shape) == ((4, 7, 5), (2, 7, 5))
    for k in range(6):
        tune, first = divmod(k, 2)
        heard, target = (data.train, data.train_target) if k < 4 else (data.valid, data.valid_target)
        np.testing.assert_array_equal(heard[k % 4], rolls[tune, 8 * first : 8 * first + 7])
        np.testing.assert_array_equal(target[k % 4], rolls[tune, 8 * first + 7])
    one = SequenceData(path=tunes_file(tmp_path / "one.h5", rolls[0]), length=7, valid_examples=0, flat=True).open()
    np.testing.assert_array_equal(one.train, rolls[0, :16].reshape(2, 8, 5)[:, :7].reshape(2, -1))


@pytest.mark.parametrize(
    ("rolls", "message"),
    [
        (np.zeros((2, 3, 4, 5)), r"\(2, 3, 4, 5\) and holds float64; 0 and 1 of the shape"),
        (np.full((2, 9, 5), 64, np.uint8), "0 and 1 of the shape"),
        (np.zeros((2, 9, 5), np.uint8), r"2 pieces of 8 steps .* of which data\.valid_examples=2 are held out; none"),
        (np.zeros((2, 7, 5), np.uint8), "0 pieces of 8 steps"),
    ],
)
def test_files_that_hold_no_tunes(tmp_path: Path, rolls: np.ndarray, message: str) -> None:
    data = SequenceData(path=tunes_file(tmp_path / "tunes.h5", rolls), length=7, valid_examples=2)
    with pytest.raises(DataError, match=message):
        data.open()


def test_a_file_of_tunes_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"data\.path: there is no file .*none\.h5"):
        SequenceData(path=str(tmp_path / "none.h5")).check_files()
