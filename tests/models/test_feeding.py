"""Whatever computes on arrays: in which type, and in which mode the network is afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from elektronn_tui.models import GRU, Conv, Input, Model, Module, Perceptron

IMAGE = np.random.default_rng(0).random((1, 1, 8, 8)).astype(np.float32)
WAYS: dict[str, Callable[[Model], Any]] = {
    "node": lambda model: model.prediction_node(IMAGE),
    "predict": lambda model: model.predict(IMAGE),
    "predict_ext": lambda model: model.predict_ext(IMAGE),
    "predict_dense": lambda model: model.predict_dense(IMAGE[0]),
    "activations": lambda model: model.activations(IMAGE),
    "test_run": lambda model: model.test_run(),
    "exectimes": lambda model: model.measure_exectimes(1, 0),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_module_goes_back_to_its_own_mode(way: Callable[[Model], Any]) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    network[1].eval()  # as is usual in fine-tuning
    raw = Input((1, 1, 8, 8), "b,f,y,x", name="raw")
    out = Module(raw, network)
    model = Model(raw, prediction_node=out, prediction_ext=[out])
    found = way(model)
    assert [module.training for module in network] == [True, False, True]
    if isinstance(found, np.ndarray):
        np.testing.assert_array_equal(found, way(model))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_constants_alone_say_the_type_as_parameters_do(way: Callable[[Model], Any]) -> None:
    raw = Input((1, 1, 8, 8), "b,f,y,x", name="raw")
    out = Conv(raw, 2, (3, 3), w=[np.ones((2, 1, 3, 3)), "const"], b=[np.ones(2), "const"])
    model = Model(raw, prediction_node=out, prediction_ext=[out]).to(dtype=torch.float64)
    found = way(model)
    if isinstance(found, np.ndarray):
        expected = np.broadcast_to(1 + 9 * _means(IMAGE), found.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def _means(image: np.ndarray) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(image[0, 0], (3, 3)).mean((2, 3))


def test_debug_outputs_keep_modes_and_types() -> None:
    raw, start = Input((2, 3), "b,f", name="raw"), Input((2, 4), "b,f", name="start")
    cell = GRU(Perceptron(raw, 5), start, 4)
    Model(raw, prediction_node=cell).to(dtype=torch.float64)
    values = cell.get_debug_outputs(np.ones((2, 3), np.float32), np.ones((2, 4), np.float32))
    assert {value.dtype for value in values.values()} == {np.dtype(np.float64)}
    assert cell.operation.training
