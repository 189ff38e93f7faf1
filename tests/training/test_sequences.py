"""Sequences as an experiment's data, and the experiments of the zoo that learn from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import elektronn_tui
from elektronn_tui import SequenceData
from elektronn_tui.data import PIANO_NOTES
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
