"""What nodes cost, and the search for the fastest settings."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from elektronn_tui.errors import ModelError
from elektronn_tui.models import Conv, GenericInput, Input, Model, setting_search
from elektronn_tui.models.profiling import profile_nodes, training_bytes
from elektronn_tui.models.setting_search import Setting, Trial, search_settings
from elektronn_tui.training.examples import examples
from elektronn_tui.training.opening import open_model

SMALL = sorted(set(examples()) - {"unet3d", "unet3d_lite", "neuro3d", "unet2d"})


@pytest.mark.parametrize("name", SMALL)
def test_every_node_of_the_zoo_is_measured(name: str) -> None:
    model = open_model(name)
    found = {node.name: node for node in profile_nodes(model, seconds=0)}
    computed = [node for node in model.nodes.values() if not node.is_source]
    assert set(found) == {node.name for node in computed}
    assert all(node.forward > 0 for node in found.values())
    assert sum(node.share for node in found.values()) == pytest.approx(1)
    for node in computed:
        profile = found[node.name]
        assert profile.backward > 0 or not any(p.requires_grad for p in node.operation.parameters())
        assert profile.cost == node.computational_cost
        if not node.several and node.shape.ndim:
            assert profile.bytes == 4 * node.shape.stripnone_prod * (2 if node.dtype == "int64" else 1)
    assert all(p.grad is None for p in model.module.parameters())


def test_passes_go_on_while_there_is_time() -> None:
    passes: list[int] = []
    profile_nodes(open_model("mnist"), seconds=60, progress=passes.append)
    assert passes == [1, 2, 3, 4, 5, 6, 7]
    passes.clear()
    profile_nodes(open_model("mnist"), seconds=0, precision="bf16", progress=passes.append)
    assert passes == [1]


def test_objects_cannot_be_made_up() -> None:
    raw = Input((1, 1, 8, 8), "b,f,y,x", name="raw")
    model = Model(raw, prediction_node=Conv(raw, 1, (3, 3)))
    profile_nodes(model, seconds=0)
    model.nodes["object"] = GenericInput("object")
    with pytest.raises(ModelError, match="no random ones to test with"):
        profile_nodes(model, seconds=0)
    with pytest.raises(ModelError, match="seconds must be from 0 on"):
        profile_nodes(model, seconds=-1)


class TestSearch:
    def test_the_fastest_comes_first_and_all_kinds_are_tried(self) -> None:
        told: list[Trial] = []
        model = open_model("membranes")
        found = search_settings(model, "prediction", memory=2**28, seconds=20, progress=told.append)
        assert sorted(map(id, found)) == sorted(map(id, told))
        rates = [trial.rate for trial in found]
        assert rates == sorted(rates, reverse=True)
        done = [trial for trial in found if not trial.skipped]
        assert {trial.setting.memory_format for trial in done} == {"channels_last", "contiguous"}
        assert len({trial.setting.patch for trial in done}) > 2
        assert all(math.isfinite(trial.seconds) and trial.bytes > 0 for trial in done)

    @pytest.mark.parametrize("purpose", ["prediction", "training"])
    def test_what_is_too_large_is_never_run(self, purpose: setting_search.Purpose) -> None:
        limit = 40 * 2**20
        found = search_settings(open_model("membranes"), purpose, memory=limit, seconds=8)
        assert all(trial.bytes <= limit for trial in found if not trial.skipped)
        assert {trial.skipped for trial in found if trial.bytes > limit} == {"too large"}
        assert any(trial.bytes > limit for trial in found)

    def test_no_inputs_are_made_of_what_is_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[int] = []

        def random_array(node: Input, rng: np.random.Generator) -> np.ndarray:
            made.append(node.shape.stripnone_prod)
            return original(node, rng)

        original = Input.random_array
        monkeypatch.setattr(Input, "random_array", random_array)
        found = search_settings(open_model("membranes"), "training", memory=40 * 2**20, seconds=3)
        largest = max(math.prod(trial.setting.patch) * trial.setting.batch for trial in found if not trial.skipped)
        assert max(made) <= largest < max(math.prod(trial.setting.patch) for trial in found)

    def test_one_setting_is_tried_however_short_the_time(self) -> None:
        found = search_settings(open_model("membranes"), "training", memory=2**30, seconds=1e-6)
        assert sum(not trial.skipped for trial in found) == 1
        assert {trial.skipped for trial in found} == {"", "no time left", "too large"}

    def test_networks_without_voxels_are_trained_in_batches(self) -> None:
        found = search_settings(open_model("gru"), "training", memory=2**30, seconds=5)
        assert {trial.setting.patch for trial in found} == {()}
        assert max(trial.setting.batch for trial in found) > 1
        with pytest.raises(ModelError, match="dense prediction needs"):
            search_settings(open_model("gru"), "prediction", memory=2**30, seconds=5)

    def test_the_model_is_left_as_it_is(self) -> None:
        model = open_model("membranes")
        before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
        search_settings(model, "training", memory=2**30, seconds=1)
        assert all(tensor.equal(before[name]) for name, tensor in model.module.state_dict().items())
        assert not model.channels_last
        assert all(p.grad is None for p in model.module.parameters())

    def test_nothing_fits(self) -> None:
        with pytest.raises(ModelError, match=r"No setting of 'membranes' for prediction fits into .*; the smallest"):
            search_settings(open_model("membranes"), "prediction", memory=1000, seconds=1)

    def test_there_must_be_a_loss(self) -> None:
        raw = Input((1, 1, 8, 8), "b,f,y,x", name="raw")
        with pytest.raises(ModelError, match="has no loss_node to train"):
            search_settings(Model(raw, prediction_node=Conv(raw, 1, (3, 3))), "training", memory=2**30)

    def test_a_setting_is_not_tried_twice(self) -> None:
        found = search_settings(open_model("membranes"), "training", memory=2**30, seconds=4)
        settings = [trial.setting for trial in found]
        assert len(settings) == len(set(settings))
        assert all(isinstance(setting, Setting) for setting in settings)


MEASURED = """
import re, sys
from pathlib import Path
import torch
from elektronn_tui.models.setting_search import Setting, _Search
from elektronn_tui.training.opening import open_model


def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])  # of this program alone


torch.set_num_threads(1)
model = open_model(sys.argv[1])
patch = tuple(int(n) for n in sys.argv[2].split(","))
search = _Search(model, "training", 2**62, 60.0, None)
search._training(Setting(search._declared, 1, "fp32", "contiguous"))[0]()()
before = peak()
make, _, needed, _ = search._training(Setting(patch, 1, "fp32", "contiguous"))
make()()
print((peak() - before) * 1024, needed)
"""


def test_the_memory_of_a_step_is_foreseen() -> None:
    command = [sys.executable, "-c", MEASURED, "membranes", "30,284,284"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=True)
    measured, foreseen = map(int, done.stdout.split())
    assert 0.8 < foreseen / measured < 2.5, (foreseen, measured)
    assert training_bytes(open_model("membranes")) < foreseen
