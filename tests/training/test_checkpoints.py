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
from safetensors.torch import load_file

from elektronn_tui.errors import CheckpointError
from elektronn_tui.training.checkpoints import Checkpoints, load_weights, restore_rng
from elektronn_tui.training.hyperparameters import OPTIMISERS, Optimiser
from elektronn_tui.training.runner import build
from elektronn_tui.training.schedules import Cosine
from elektronn_tui.training.updating import Updater


def a_step(model, updater):
    generator = np.random.default_rng(0)
    feeds = {
        "raw": torch.from_numpy(generator.random((1, 1, 3, 15, 15), np.float32)),
        "target": torch.from_numpy(generator.integers(0, 2, (1, 1, 1, 4, 4))),
    }
    updater.begin()
    model.compute([model.loss_node], feeds)[0].backward()
    updater.step(1)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_come_back_to_the_bit(tmp_path, tiny, weights, name):
    model = tiny().to(memory_format=torch.channels_last_3d)
    updater = Updater(model, Optimiser(name, lr=1e-2, weight_decay=1e-3))
    for _ in range(3):
        a_step(model, updater)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, updater, {"step": 3})
    a_step(model, updater)

    other = tiny().to(memory_format=torch.channels_last_3d)
    again = Updater(other, Optimiser("SGD" if name == "Adam" else "Adam", lr=1e-2, weight_decay=1e-3))
    checkpoint = checkpoints.load()
    load_weights(other, checkpoint.model_file)
    again.set("optimiser", name)
    again.restore(checkpoint)
    a_step(other, again)
    for key, value in weights(model).items():
        np.testing.assert_array_equal(weights(other)[key], value)


EVERYTHING = {
    "optimiser": Optimiser("SGD", lr=1e-2, weight_decay=1e-3),
    "accumulate": 2,
    "clip_norm": 0.5,
    "clip_value": 0.4,
    "averaging": "ema",
    "lr_scales": {"conv1": 0.5, "*.b": 2.0},
    "decay_scales": {"conv.w": 3.0},
    "validate_every": 3,
}


@pytest.mark.parametrize(
    ("optimiser", "edit"),
    [("AdamW", {}), ("RMSprop", {"lr_scale.conv1": 0}), ("AdaGrad", {"averaging": "swa", "swa_every": 3})],
)
def test_a_run_with_everything_that_goes_on_ends_with_the_same_bits(
    make_session, make_experiment, tiny, weights, optimiser, edit
):
    """Averages, accumulation, clipping, multipliers; and another optimiser from the 5th step on."""
    experiment = make_experiment(model=lambda: tiny(0.3), steps=10, **EVERYTHING)

    def ask(session):
        for name, value in {"optimiser": optimiser, **edit}.items():
            session.controls.set(name, value)

    whole_session = make_session("whole", at={4: ask})
    whole = build(experiment, whole_session)
    whole.run()
    first_session = make_session("first", at={4: ask, 7: lambda session: session.stop("enough")})
    first = build(experiment, first_session)
    first.run()
    first.save()
    second_session = make_session("second")
    second = build(experiment, second_session)
    second.restore(first.checkpoints.load())
    second.run()
    assert second.updater.kind == whole.updater.kind == optimiser
    assert second_session.metrics["valid_loss"][9] == whole_session.metrics["valid_loss"][9]
    assert second_session.metrics["grad_norm"][10] == whole_session.metrics["grad_norm"][10]
    assert second.example == whole.example == 20
    ends = [trainer.checkpoints.load() for trainer in (whole, second)]
    for name in ("model_file", "averaged_file"):
        one, other = (load_file(getattr(end, name)) for end in ends)
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert any(
        not torch.equal(value, load_file(ends[0].averaged_file)[key])
        for key, value in load_file(ends[0].model_file).items()
    )


def test_another_optimiser_that_was_set_and_not_yet_used_comes_back(make_session, make_experiment):
    first = build(make_experiment(steps=3), make_session("first"))
    first.run()
    first.controls.set("optimiser", "SGD")
    first.save("mine")
    second = build(make_experiment(steps=4), make_session("second"))
    second.restore(first.checkpoints.load("mine"))
    assert (second.updater.kind, second.controls["optimiser"].get()) == ("Adam", "SGD")
    second.make_step()
    second.prefetcher.close()
    assert isinstance(second.optimiser, torch.optim.SGD)


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
    updater = Updater(model, Optimiser())
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, updater, {"step": 1})
    expected = torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]
    restore_rng(checkpoints.load().rng)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]) == expected


def test_latest_best_names_and_pruning(tmp_path, tiny):
    model = tiny()
    updater = Updater(model, Optimiser())
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(1, 7):
        checkpoints.save(model, updater, {"step": step}, best=step == 2, name="before-lr-change" if step == 3 else None)
    assert checkpoints.load("latest").step == 6
    assert checkpoints.load("best").step == 2
    assert checkpoints.load("before-lr-change").step == 3
    kept = {path.name for path in tmp_path.iterdir() if not path.is_symlink()}
    assert kept == {"step-000000002", "before-lr-change", "step-000000005", "step-000000006"}
    again = checkpoints.save(model, updater, {"step": 6})
    assert again.name == "step-000000006-2"
    assert checkpoints.path("latest") == again


@pytest.mark.parametrize("name", ["latest", "../away", ".hidden", "step-000000001", "a b", ""])
def test_names_that_can_t_be_used(tmp_path, tiny, name):
    model = tiny()
    with pytest.raises(CheckpointError, match="can't name a checkpoint"):
        Checkpoints(tmp_path).save(model, Updater(model, Optimiser()), {"step": 1}, name=name)


def test_a_name_is_never_overwritten(tmp_path, tiny):
    model = tiny()
    updater = Updater(model, Optimiser())
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, updater, {"step": 1}, name="mine")
    with pytest.raises(CheckpointError, match="'mine' already"):
        checkpoints.save(model, updater, {"step": 2}, name="mine")
    assert checkpoints.load("mine").step == 1


def test_no_file_is_a_pickle(tmp_path, tiny):
    model = tiny()
    path = Checkpoints(tmp_path).save(model, Updater(model, Optimiser()), {"step": 1})
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
        from elektronn_tui.training.updating import Updater
        directory, moment = pathlib.Path(sys.argv[1]), sys.argv[2]
        model = tiny_model()
        updater = Updater(model, Optimiser())
        checkpoints = module.Checkpoints(directory)
        checkpoints.save(model, updater, {"step": 1})

        def die(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)

        if moment == "state":
            write = module._write
            module._write = lambda path, data: die() if path.name == "state.json" else write(path, data)
        elif moment == "rename":
            pathlib.Path.rename = die
        else:
            module.Checkpoints._link = die
        checkpoints.save(model, updater, {"step": 2})
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
    path = checkpoints.save(model, Updater(model, Optimiser()), {"step": 1})
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
