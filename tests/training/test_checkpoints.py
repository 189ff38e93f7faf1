import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from elektronn_tui.errors import CheckpointError
from elektronn_tui.training.checkpoints import Checkpoints, load_weights, restore_optimiser, restore_rng
from elektronn_tui.training.experiment import Optimiser
from elektronn_tui.training.optimisers import build_optimiser
from elektronn_tui.training.runner import build
from elektronn_tui.training.schedules import Cosine

NAMES = ("SGD", "Adam", "AdamW", "AdaGrad", "AdaDelta", "RAdam")


def a_step(model, optimiser):
    generator = np.random.default_rng(0)
    feeds = {
        "raw": torch.from_numpy(generator.random((1, 1, 3, 15, 15), np.float32)),
        "target": torch.from_numpy(generator.integers(0, 2, (1, 1, 1, 4, 4))),
    }
    optimiser.zero_grad()
    model.compute([model.loss_node], feeds)[0].backward()
    optimiser.step()


@pytest.mark.parametrize("name", NAMES)
def test_optimisers_come_back_to_the_bit(tmp_path, tiny, weights, name):
    model = tiny().to(memory_format=torch.channels_last_3d)
    optimiser = build_optimiser(Optimiser(name, lr=1e-2, weight_decay=1e-3), model)
    for _ in range(3):
        a_step(model, optimiser)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, optimiser, {"step": 3})
    a_step(model, optimiser)

    other = tiny().to(memory_format=torch.channels_last_3d)
    again = build_optimiser(Optimiser(name, lr=5.0), other)
    checkpoint = checkpoints.load()
    load_weights(other, checkpoint.model_file)
    restore_optimiser(again, checkpoint.optimiser)
    a_step(other, again)
    for key, value in weights(model).items():
        np.testing.assert_array_equal(weights(other)[key], value)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_run_that_goes_on_ends_with_the_same_bits(make_session, make_experiment, tiny, weights, dropout):
    experiment = make_experiment(
        model=lambda: tiny(dropout), steps=12, batch_size=2, schedules={"lr": Cosine(None, 1e-4, 12, 3)}
    )
    whole = build(experiment, make_session("whole", at={5: lambda session: session.controls.set("batch_size", 1)}))
    whole.run()

    first_session = make_session("first", at={5: lambda session: session.controls.set("batch_size", 1)})
    first_session.at[8] = lambda session: session.stop("enough")
    first = build(experiment, first_session)
    first.run()
    first.save()
    torch.manual_seed(99)
    second = build(experiment, make_session("second"))
    second.restore(first.checkpoints.load())
    assert (second.step, second.example) == (8, 13)
    second.run()
    assert second.step == 12
    for key, value in weights(whole.model).items():
        np.testing.assert_array_equal(weights(second.model)[key], value)


def test_random_generators_come_back(tmp_path, tiny):
    model = tiny()
    optimiser = build_optimiser(Optimiser(), model)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, optimiser, {"step": 1})
    expected = torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]
    restore_rng(checkpoints.load().rng)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]) == expected


def test_latest_best_names_and_pruning(tmp_path, tiny):
    model = tiny()
    optimiser = build_optimiser(Optimiser(), model)
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(1, 7):
        checkpoints.save(
            model, optimiser, {"step": step}, best=step == 2, name="before-lr-change" if step == 3 else None
        )
    assert checkpoints.load("latest").step == 6
    assert checkpoints.load("best").step == 2
    assert checkpoints.load("before-lr-change").step == 3
    kept = {path.name for path in tmp_path.iterdir() if not path.is_symlink()}
    assert kept == {"step-000000002", "before-lr-change", "step-000000005", "step-000000006"}
    again = checkpoints.save(model, optimiser, {"step": 6})
    assert again.name == "step-000000006-2"
    assert checkpoints.path("latest") == again


@pytest.mark.parametrize("name", ["latest", "../away", ".hidden", "step-000000001", "a b", ""])
def test_names_that_can_t_be_used(tmp_path, tiny, name):
    model = tiny()
    with pytest.raises(CheckpointError, match="can't name a checkpoint"):
        Checkpoints(tmp_path).save(model, build_optimiser(Optimiser(), model), {"step": 1}, name=name)


def test_a_name_is_never_overwritten(tmp_path, tiny):
    model = tiny()
    optimiser = build_optimiser(Optimiser(), model)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, optimiser, {"step": 1}, name="mine")
    with pytest.raises(CheckpointError, match="'mine' already"):
        checkpoints.save(model, optimiser, {"step": 2}, name="mine")
    assert checkpoints.load("mine").step == 1


def test_no_file_is_a_pickle(tmp_path, tiny):
    model = tiny()
    path = Checkpoints(tmp_path).save(model, build_optimiser(Optimiser(), model), {"step": 1})
    assert {file.name for file in path.iterdir()} == {"model.safetensors", "optimiser.safetensors", "state.json"}
    json.loads((path / "state.json").read_text())


@pytest.mark.parametrize("moment", ["state", "rename", "link"])
def test_a_kill_while_saving_leaves_the_latest(tmp_path, moment):
    """Killed by SIGKILL with the new checkpoint half-written, unnamed, or named but not yet the latest."""
    script = textwrap.dedent(
        """
        import os, pathlib, signal, sys
        from conftest import tiny_model
        from elektronn_tui.training import checkpoints as module
        from elektronn_tui.training.experiment import Optimiser
        from elektronn_tui.training.optimisers import build_optimiser
        directory, moment = pathlib.Path(sys.argv[1]), sys.argv[2]
        model = tiny_model()
        optimiser = build_optimiser(Optimiser(), model)
        checkpoints = module.Checkpoints(directory)
        checkpoints.save(model, optimiser, {"step": 1})

        def die(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)

        if moment == "state":
            write = module._write
            module._write = lambda path, data: die() if path.name == "state.json" else write(path, data)
        elif moment == "rename":
            pathlib.Path.rename = die
        else:
            module.Checkpoints._link = die
        checkpoints.save(model, optimiser, {"step": 2})
        """
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), moment], check=False, timeout=120, env=environment
    )
    assert done.returncode == -signal.SIGKILL
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load("latest").step == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".writing")]


def test_damaged_and_missing_ones_say_so(tmp_path, tiny):
    model = tiny()
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="there is no checkpoint 'latest'"):
        checkpoints.load()
    path = checkpoints.save(model, build_optimiser(Optimiser(), model), {"step": 1})
    (path / "optimiser.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="the checkpoint is damaged"):
        checkpoints.load()


def test_weights_of_another_network_are_refused(tmp_path, tiny):
    from elektronn_tui.models import Conv, Input, Model

    raw = Input((1, 1, 3, 15, 15), "b,f,z,y,x", name="raw")
    Model(input_node=raw, prediction_node=Conv(raw, 4, (1, 3, 3), (1, 1, 1), name="conv")).save(
        tmp_path / "a.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"missing: conv1.w.*of another shape: conv.w"):
        load_weights(tiny(), tmp_path / "a.safetensors")
