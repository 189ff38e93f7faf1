import json
import math
from dataclasses import replace
from importlib import metadata
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from elektronn_tui.errors import CheckpointError, DataError, ElektronnError, ExperimentError
from elektronn_tui.training.augmentations import AUGMENTATIONS
from elektronn_tui.training.datasets import Volumes
from elektronn_tui.training.experiment import DemoData, Optimiser
from elektronn_tui.training.hyperparameters import OPTIMISERS, USES
from elektronn_tui.training.runner import build, run
from elektronn_tui.training.schedules import Linear, StepDecay, Values
from elektronn_tui.training.trouble import BadLossError

NAN_AT = 3


def poison(trainer, examples):
    """Make the raw values of some examples NaN on their way to the model."""
    feed, fed = trainer.feed, []

    def poisoned(batch):
        feeds = feed(batch)
        fed.append(1)
        if len(fed) in examples:
            feeds["raw"] = feeds["raw"] * math.nan
        return feeds

    trainer.feed = poisoned


def seen_examples(trainer):
    """Record which examples each step was given."""
    seen = {}
    batch = trainer.supply.batch

    def recording(indices, settings):
        made = batch(indices, settings)
        made["which"] = np.array(list(indices))
        made["warp"] = np.array(settings.warp)
        return made

    trainer.supply.batch = recording
    publish = trainer.session.publish

    def published(step, metrics):
        if "loss" in metrics:
            seen[step] = trainer.batch["which"].tolist()
        publish(step, metrics)

    trainer.session.publish = published
    feed = trainer.feed
    trainer.feed = lambda batch: feed({key: batch[key] for key in ("raw", "target")})
    return seen


def record_warp(session, trainer, warps):
    publish = session.publish

    def published(step, metrics):
        warps[step] = float(trainer.batch["warp"])
        publish(step, metrics)

    session.publish = published


def test_a_session_makes_exactly_its_steps(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(steps=7), session)
    trainer.run()
    assert trainer.step == 7
    assert list(session.metrics["loss"]) == [1, 2, 3, 4, 5, 6, 7]
    assert session.safe_points == [0, 1, 2, 3, 4, 5, 6]
    assert trainer.checkpoints.load().step == 7


def test_it_learns(make_session, make_experiment):
    session = make_session()
    run(make_experiment(steps=150, validate_every=50, batch_size=2), session)
    assert session.metrics["valid_balanced_error"][150] < 0.1
    assert session.metrics["valid_iou"][150] > 0.8
    assert set(session.metrics["valid_loss"]) == {50, 100, 150}


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_the_same_seed_gives_the_same_bits_whatever_the_threads(make_session, make_experiment, tiny, weights, threads):
    def train(name, **more):
        session = make_session(name)
        trainer = build(make_experiment(model=lambda: tiny(0.2), steps=8, batch_size=2, **more), session)
        trainer.run()
        return weights(trainer.model), list(session.metrics["loss"].values())

    first, losses = train("first", data_threads=1)
    second, again = train("second", data_threads=threads)
    assert losses == again
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value)
    other, _ = train("other", seed=2)
    assert not np.array_equal(other["conv.w"], first["conv.w"])


def test_stop_ends_at_the_next_boundary(make_session, make_experiment):
    session = make_session(at={3: lambda session: session.stop("a person said so")})
    trainer = build(make_experiment(), session)
    trainer.run()
    assert trainer.step == 3
    assert list(session.metrics["loss"]) == [1, 2, 3]


def test_run_time_is_limited(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(steps=100_000, max_runtime=1e-6), session)
    trainer.run()
    assert trainer.step == 0


def test_steps_can_be_changed_live(make_session, make_experiment):
    session = make_session(at={2: lambda session: session.controls.set("steps", 4)})
    trainer = build(make_experiment(steps=100), session)
    trainer.run()
    assert trainer.step == 4
    assert session.status["steps"] == 4


def test_controls_that_are_registered(make_session, make_experiment, tiny):
    session = make_session()
    build(make_experiment(model=lambda: tiny(0.5)), session).prefetcher.close()
    assert set(session.controls.names()) == {
        "lr", "weight_decay", "optimiser", "momentum", "nesterov", "betas", "rho", "alpha", "eps", "clip_norm",
        "clip_value", "accumulate", "averaging", "ema_decay", "swa_from", "swa_every", "conv.dropout_rate",
        "nll.class_weights", "loss.mixing", "batch_size", *AUGMENTATIONS, "steps", "validate_every", "checkpoint_every",
        "preview_every", "plateau_patience", "plateau_factor", "on_nan", "on_error",
    }  # fmt: skip


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimiser_controls_are_live(make_session, make_experiment, name):
    session = make_session()
    trainer = build(make_experiment(optimiser=Optimiser(name, weight_decay=0.1)), session)
    trainer.prefetcher.close()
    controls = session.controls
    new = {"momentum": 0.5, "nesterov": True, "betas": (0.8, 0.9), "rho": 0.5, "alpha": 0.7, "eps": 1e-3}
    assert set(USES[name]) <= set(new) <= set(controls.names())
    for control, value in {"lr": 0.5, "weight_decay": 0.25, **new}.items():
        controls.set(control, value)
        assert controls.info(control).value == (list(value) if isinstance(value, tuple) else value)
    groups = trainer.optimiser.param_groups
    assert {group["lr"] for group in groups} == {0.5}
    assert {group["name"]: group["weight_decay"] for group in groups} == {"decay": 0.25, "no_decay": 0.0}
    for key in USES[name]:
        assert {group[key] for group in groups} == {new[key]}


def test_network_controls_reach_the_network(make_session, make_experiment, tiny):
    session = make_session()
    experiment = make_experiment(
        model=lambda: tiny(0.5), class_weights=(1.0, 3.0), control_values={"conv.dropout_rate": "0.25"}
    )
    trainer = build(experiment, session)
    trainer.prefetcher.close()
    assert trainer.model["conv"].dropout_rate == 0.25
    assert session.controls.info("nll.class_weights").value == [1.0, 3.0]
    session.controls.set("loss.mixing", "2")
    assert trainer.model["loss"].mixing_weights == [2.0]
    with pytest.raises(ElektronnError, match=r"conv.dropout_rate: 1 is not allowed; it must be a number ≥ 0 and < 1"):
        session.controls.set("conv.dropout_rate", 1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"control_values": {"conv.dropot_rate": "0.1"}}, "conv.dropot_rate: there is no such setting or control"),
        ({"control_values": {"optimizer.lr": "0.1"}}, "Did you mean 'optimiser.lr'?"),
        ({"control_values": {"loss.mixing": "x"}}, "loss.mixing: x is not allowed; it must be one number"),
        ({"schedules": {"lrr": StepDecay(0.5)}}, "schedules: no control is called 'lrr'. Did you mean 'lr'?"),
        ({"schedules": {"batch_size": Values([(2, 0)])}}, "schedules: schedule of batch_size: 0 is not allowed"),
        ({"class_weights": (1.0, 2.0, 3.0)}, "class_weights, for nll"),
        ({"model": lambda: 3}, "model: the function returned int; it must return a Model"),
        ({"device": "cuda:9"}, "device: cuda:9 is not there"),
        ({"device": "gpu"}, "device: gpu is not allowed; it must be auto, cpu or cuda:N"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_first_step(make_session, make_experiment, more, message):
    with pytest.raises(ExperimentError) as caught:
        build(make_experiment(**more), make_session())
    assert message in str(caught.value)


def test_volumes_that_do_not_fit_the_network(make_session, make_experiment):
    class Small:
        def open(self):
            from elektronn_tui.data import Pair

            return Volumes([Pair(np.zeros((2, 40, 40), np.uint8), np.zeros((2, 40, 40), np.uint8))])

    class Coloured:
        def open(self):
            from elektronn_tui.data import Pair

            return Volumes([Pair(np.zeros((2, 9, 40, 40), np.uint8), np.zeros((9, 40, 40), np.uint8))])

    with pytest.raises(DataError, match="axis z"):
        build(make_experiment(data=Small()), make_session("small"))
    with pytest.raises(ExperimentError, match="its input takes 1 channels, but array has 2"):
        build(make_experiment(data=Coloured()), make_session("coloured"))


def test_schedules_set_controls_before_each_step(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(steps=4, schedules={"lr": Linear(4.0, 1.0, 4)}), session)
    used = []
    step = trainer.optimiser.step
    trainer.optimiser.step = lambda: (used.append(trainer.optimiser.param_groups[0]["lr"]), step())
    trainer.run()
    assert used == [4.0, 3.0, 2.0, 1.0]


def test_an_edit_counts_from_the_very_next_step(make_session, make_experiment):
    session = make_session(at={2: lambda session: session.controls.set("lr", 0.125)})
    trainer = build(make_experiment(steps=4), session)
    used = []
    step = trainer.optimiser.step
    trainer.optimiser.step = lambda: (used.append(trainer.optimiser.param_groups[0]["lr"]), step())
    trainer.run()
    assert used == [1e-2, 1e-2, 0.125, 0.125]


def test_batch_size_edits_use_each_example_once(make_session, make_experiment):
    session = make_session(at={2: lambda session: session.controls.set("batch_size", 3)})
    trainer = build(make_experiment(steps=4, batch_size=2), session)
    seen = seen_examples(trainer)
    trainer.run()
    assert seen == {1: [0, 1], 2: [2, 3], 3: [4, 5, 6], 4: [7, 8, 9]}
    assert trainer.example == 10
    assert trainer.checkpoints.load().state["next_example"] == 10


def test_scheduled_batch_sizes_use_each_example_once(make_session, make_experiment):
    session = make_session()
    experiment = make_experiment(steps=4, data_threads=2, schedules={"batch_size": Values([(2, 2), (4, 1)])})
    trainer = build(experiment, session)
    seen = seen_examples(trainer)
    trainer.run()
    assert seen == {1: [0], 2: [1, 2], 3: [3, 4], 4: [5]}


def test_data_edits_drop_what_was_made_ahead(make_session, make_experiment):
    warps = {}
    session = make_session(at={3: lambda session: session.controls.set("warp", 1.0)})
    trainer = build(make_experiment(steps=6, warp=0.0), session)
    seen_examples(trainer)
    publish = session.publish
    session.publish = lambda step, metrics: (
        warps.__setitem__(step, float(trainer.batch["warp"])),
        publish(step, metrics),
    )
    trainer.run()
    assert warps == {1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 1}


def test_scheduled_data_controls_count_for_the_step_that_uses_the_example(make_session, make_experiment):
    warps = {}
    session = make_session()
    trainer = build(make_experiment(steps=5, schedules={"warp": Values([(1, 0.0), (3, 1.0)])}), session)
    seen_examples(trainer)
    publish = session.publish
    session.publish = lambda step, metrics: (
        warps.__setitem__(step, float(trainer.batch["warp"])),
        publish(step, metrics),
    )
    trainer.run()
    assert warps == {1: 0, 2: 0, 3: 1, 4: 1, 5: 1}


def test_nan_pauses_without_an_update_and_goes_on_with_the_next_batch(make_session, make_experiment, weights):
    session = make_session()
    trainer = build(make_experiment(steps=4, on_nan="pause"), session)
    seen = seen_examples(trainer)
    poison(trainer, {NAN_AT})
    trainer.run()
    assert trainer.step == 4
    assert seen == {1: [0], 2: [1], 3: [3], 4: [4]}
    assert len(session.pauses) == 1
    assert "the loss is nan at step 3" in session.pauses[0]
    assert ("nan", "loss nan", 3) in session.marks
    (kept,) = (session.run_dir / "bad-batches").iterdir()
    assert np.load(kept)["which"].tolist() == [2]
    assert all(np.isfinite(value).all() for value in weights(trainer.model).values())


def test_nan_rolls_back_to_the_last_good_checkpoint(make_session, make_experiment, weights):
    session = make_session()
    trainer = build(make_experiment(steps=5, on_nan="rollback", checkpoint_every=2), session)
    poison(trainer, {4})  # step 4, with a checkpoint at step 2
    before = {}
    skip = trainer._skip
    trainer._skip = lambda *counts: (before.update(weights(trainer.model)), skip(*counts))
    after = {}
    record = session.record
    session.record = lambda *entry: (after.update(weights(trainer.model)), record(*entry))
    trainer.run()
    assert trainer.step == 5
    assert not np.array_equal(before["conv.w"], after["conv.w"])
    ((kind, text, data),) = session.records
    assert kind == "policy"
    assert text == "rolled back to the weights of step 2, lr 0.01 → 0.005"
    assert data["lr"] == 0.005
    assert session.controls["lr"].get() == 0.005
    assert not session.pauses


def test_nan_at_the_very_first_step_rolls_back_to_the_start(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(on_nan="rollback"), session)
    poison(trainer, {1})
    trainer.run()
    assert [text for _, text, _ in session.records] == ["rolled back to the weights of step 0, lr 0.01 → 0.005"]
    assert trainer.step == 6


def test_nan_without_a_checkpoint_pauses_instead(make_session, make_experiment):
    session = make_session(at={0: lambda session: session.controls.set("on_nan", "rollback")})
    trainer = build(make_experiment(), session)
    poison(trainer, {1})
    trainer.run()
    assert len(session.pauses) == 1
    assert trainer.step == 6


def test_nan_that_does_not_go_away_pauses_in_the_end(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(on_nan="rollback", checkpoint_every=1), session)
    poison(trainer, set(range(2, 9)))
    trainer.run()
    assert len(session.records) == 5
    assert len(session.pauses) == 2
    assert len(list((session.run_dir / "bad-batches").iterdir())) == 5
    assert "no more batches are kept" in session.pauses[-1]


def test_nan_stops(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(on_nan="stop", on_error="stop"), session)
    poison(trainer, {NAN_AT})
    with pytest.raises(BadLossError, match="the loss is nan at step 3"):
        trainer.run()
    session = make_session("halting")
    trainer = build(make_experiment(on_nan="stop", on_error="halt"), session)
    poison(trainer, {NAN_AT})
    trainer.run()
    assert trainer.step == 2
    assert "the loss is nan" in session.stopped


def test_exceptions_halt_and_the_step_is_made_again(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(steps=4, on_error="halt"), session)
    step, calls = trainer.optimiser.step, []

    def failing():
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return step()

    trainer.optimiser.step = failing
    seen = seen_examples(trainer)
    trainer.run()
    assert [str(error) for error in session.halts] == ["out of memory"]
    assert seen == {1: [0], 2: [1], 3: [2], 4: [3]}


def test_exceptions_stop_where_that_is_the_policy(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(on_error="stop"), session)
    trainer.supply.reader.read = lambda *args: (_ for _ in ()).throw(DataError("the disk is gone"))
    with pytest.raises(DataError, match="the disk is gone"):
        trainer.run()


def test_best_is_the_best(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(steps=5, validate_every=1), session)
    scores = iter([0.5, 0.3, 0.4, math.nan, 0.35])
    trainer.validation = lambda: {"valid_loss": 1.0, "valid_balanced_error": next(scores)}
    trainer.run()
    assert trainer.checkpoints.load("best").step == 2
    assert trainer.checkpoints.load("latest").step == 5


def test_validation_is_the_same_whenever_it_is_made(make_session, make_experiment, tiny):
    trainer = build(make_experiment(model=lambda: tiny(0.5), validate_patches=5), make_session())
    trainer.prefetcher.close()
    state = torch.get_rng_state()
    assert trainer.validation() == trainer.validation()
    assert torch.equal(torch.get_rng_state(), state)
    assert trainer.model.module.training


def test_periods_of_zero_switch_off(make_session, make_experiment):
    session = make_session()
    run(make_experiment(), session)
    assert not session.previews
    assert "valid_loss" not in session.metrics


def test_without_validation_volumes_nothing_is_validated(make_session, make_experiment):
    session = make_session()
    run(make_experiment(data=replace(make_experiment().data, valid=False), validate_every=1), session)
    assert "valid_loss" not in session.metrics


def test_mixing_weights_say_of_what_they_are(make_session, make_experiment, tiny):
    from elektronn_tui.models import AggregateLoss, DiceLoss, Model

    def two_losses():
        one = tiny()
        probs, target, nll = (one[name] for name in ("probs", "target", "nll"))
        loss = AggregateLoss([nll, DiceLoss(probs, target, target_is_sparse=True, name="overlap")], name="both")
        return Model(one.input_node, target, loss, probs)

    session = make_session()
    build(make_experiment(model=two_losses), session)
    assert session.controls.info("both.mixing").help == "weight of each loss in the sum: nll, overlap"


def test_config_graph_and_namespace(make_session, make_experiment, caplog):
    session = make_session()
    trainer = build(make_experiment(steps=2), session)
    drawing = ElementTree.parse(session.run_dir / "model-graph.svg").getroot()
    assert {g.get("data-name") for g in drawing.iter("{http://www.w3.org/2000/svg}g")} >= {"raw", "loss"}
    config = json.loads((session.run_dir / "config.json").read_text())
    assert config["experiment"]["optimiser"]["name"] == "Adam"
    assert config["resources"]["precision"] == "fp32"
    assert config["resources"]["torch_threads"] == 1
    assert config["experiment"]["warp_args"]["anisotropy"] == 1.0
    assert config["experiment"]["grey_args"]["kind"] == "Grey"
    assert config["scaling"] == trainer.model.scaling
    assert 100 < config["scaling"]["mean"][0] < 150
    assert config["controls"]["lr"]["value"] == 0.01
    assert config["environment"]["packages"]["torch"] == metadata.version("torch")
    roles = {node.name: node.role for node in session.graph}
    assert roles == {
        "raw": "input", "conv": "", "conv1": "", "conv2": "", "probs": "prediction", "target": "target", "nll": "",
        "loss": "loss",
    }  # fmt: skip
    assert next(node for node in session.graph if node.name == "probs").fov == (3, 9, 9)
    trainer.run()
    names = session.namespace
    assert names["trainer"] is trainer
    assert names["batch"] is trainer.batch
    assert set(names["paramstats"]().rows) == set(names["gradstats"]().rows)
    assert "conv1" in str(names["actstats"]())
    names["setlr"](0.5)
    assert trainer.optimiser.param_groups[0]["lr"] == 0.5
    raw, target = repr(names["debugbatch"]()).splitlines()
    assert raw.startswith("raw  1×1×3×15×15 float32  ")
    assert target.startswith("target  1×1×1×4×4 int64  0 to 1, mean ")
    assert "; 0: " in target
    shown = names["debugbatch"](str(session.run_dir / "batch"))
    assert shown.picture == str(session.run_dir / "batch.png")
    assert (session.run_dir / "batch.png").read_bytes().startswith(b"\x89PNG")
    with caplog.at_level("INFO"):
        names["load"](str(trainer.checkpoints.path("latest")))
    assert f"the parameters are those of {trainer.checkpoints.path('latest')}" in caplog.text


def test_demo_data_are_opened(make_session, make_experiment):
    session = make_session()
    data = DemoData(shape=(24, 64, 64), valid_slices=8)
    trainer = build(make_experiment(data=data, steps=2, validate_every=1, preview_every=1), session)
    trainer.run()
    assert set(session.metrics["valid_balanced_error"]) == {1, 2}
    assert len(session.previews) == 3


def test_warps_know_how_long_the_voxels_are(make_session, make_experiment):
    class Anisotropic:
        def open(self):
            from elektronn_tui.data import ArraySource, Pair

            raw = ArraySource(np.zeros((20, 60, 60), np.uint8), voxel_size=(50, 4, 6))
            return Volumes([Pair(raw, np.zeros((20, 60, 60), np.uint8))])

    trainer = build(make_experiment(data=Anisotropic()), make_session())
    trainer.prefetcher.close()
    assert trainer.augmentation.warp_args.anisotropy == 10.0


def test_networks_for_images_are_trained_on_sections(make_session, make_experiment):
    def flat_model():
        from elektronn_tui.models import AggregateLoss, Conv, Input, Input_like, Model, MultinoulliNLL, Softmax

        raw = Input((1, 1, 21, 21), "b,f,y,x", name="raw")
        out = Conv(Conv(raw, 4, (4, 4), (2, 2)), 2, (1, 1), activation_func="lin")
        probs = Softmax(out, name="probs")
        target = Input_like(probs, override_f=1, dtype="int64", name="target")
        nll = MultinoulliNLL(probs, target, target_is_sparse=True, name="nll")
        return Model(input_node=raw, target_node=target, loss_node=AggregateLoss([nll]), prediction_node=probs)

    session = make_session()
    trainer = build(make_experiment(model=flat_model, steps=100, validate_every=100, preview_every=100), session)
    trainer.run()
    assert session.metrics["valid_balanced_error"][100] < 0.15
    assert session.namespace["debugbatch"](str(session.run_dir / "b.png")).arrays[0].shape == (1, 1, 1, 21, 21)
    (_, volumes) = session.previews[-1]
    assert ((volumes["prediction"] > 127) == (volumes["target"] > 127)).mean() > 0.8


def test_what_a_person_must_mend_can_be_mended_while_halted(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(steps=4, on_error="halt"), session)
    broken, prefetcher = [], trainer.prefetcher

    def halt(error):
        broken.append(str(error))
        if len(broken) == 2:  # the first time nobody mended anything
            trainer.prefetcher = prefetcher
        return True

    session.halt = halt
    at = {2: lambda: delattr(trainer, "prefetcher")}
    before = session.safe_point
    session.safe_point = lambda step: (at.pop(step, lambda: None)(), before(step))[1]
    trainer.run()
    assert trainer.step == 4
    assert len(broken) == 2
    assert all("prefetcher" in text for text in broken)


def test_a_checkpoint_that_can_not_be_written_does_not_stop_the_training(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(steps=4, checkpoint_every=2, on_error="stop"), session)
    save, failed = trainer.checkpoints.save, []

    def full(*args, **more):
        if trainer.step == 2:
            failed.append(trainer.step)
            raise CheckpointError("no space left on device")
        return save(*args, **more)

    trainer.checkpoints.save = full
    trainer.run()
    assert (trainer.step, failed) == (4, [2])
    assert any(kind == "error" for kind, *_ in session.marks)


def test_the_last_checkpoint_is_tried_again_after_a_halt(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(steps=2, checkpoint_every=0, on_error="halt"), session)
    save, failed = trainer.checkpoints.save, []

    def full(*args, **more):
        if not failed:
            failed.append(trainer.step)
            raise CheckpointError("no space left on device")
        return save(*args, **more)

    trainer.checkpoints.save = full
    trainer.run()
    assert [str(error) for error in session.halts] == ["no space left on device"]
    assert trainer.checkpoints.load("latest").step == 2
