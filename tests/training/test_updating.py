"""What an update of the weights does, against the same by hand."""

import copy
import math

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ControlError, ElektronnError, ExperimentError
from elektronn_tui.training.hyperparameters import OPTIMISERS, Optimiser
from elektronn_tui.training.runner import build
from elektronn_tui.training.schedules import Values
from elektronn_tui.training.trouble import BadLossError
from elektronn_tui.training.updating import Updater


@pytest.fixture
def backward():
    """Return what gives a model's parameters gradients, the same each time, times a factor."""

    def run(model, factor=1.0):
        generator = np.random.default_rng(0)
        feeds = {
            "raw": torch.from_numpy(generator.random((1, 1, 3, 15, 15), np.float32)),
            "target": torch.from_numpy(generator.integers(0, 2, (1, 1, 1, 4, 4))),
        }
        (model.compute([model.loss_node], feeds)[0] * factor).backward()

    return run


def parameters(model):
    return dict(model.module.named_parameters())


def changes(model, act):
    before = {name: p.detach().clone() for name, p in parameters(model).items()}
    act()
    return {name: p.detach() - before[name] for name, p in parameters(model).items()}


def make_step(updater, model, backward, step=1, **more):
    updater.begin()
    backward(model, **more)
    return updater.step(step)


# --- torch's optimisers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("SGD", {"momentum": 0.9}),
        ("Adam", {"betas": (0.9, 0.999)}),
        ("AdamW", {}),
        ("RAdam", {}),
        ("NAdam", {}),
        ("Adamax", {}),
        ("AdaGrad", {}),
        ("AdaDelta", {"rho": 0.9}),
        ("RMSprop", {"alpha": 0.99, "momentum": 0.9}),
        ("Adafactor", {}),
    ],
)
def test_each_is_torch_s_own(tiny, backward, name, arguments):
    model, updater = tiny(), None
    reference = copy.deepcopy(model.module)
    updater = Updater(model, Optimiser(name, lr=1e-2, weight_decay=0.1))
    kind = {kind.lower(): getattr(torch.optim, kind) for kind in dir(torch.optim)}[name.lower()]
    named = dict(reference.named_parameters())
    groups = [
        {"params": [p for key, p in named.items() if key.endswith(".w")], "weight_decay": 0.1},
        {"params": [p for key, p in named.items() if key.endswith(".b")], "weight_decay": 0.0},
    ]
    torchs = kind(groups, lr=1e-2, **arguments)
    for step in range(1, 4):
        make_step(updater, model, backward, step)
        for key, p in parameters(model).items():
            named[key].grad = p.grad.clone()
        torchs.step()
        for key, p in parameters(model).items():
            torch.testing.assert_close(p, named[key], rtol=0, atol=0)


def test_torch_s_spelling_is_known_and_what_it_lacks_is_refused():
    assert Optimiser("Adadelta").name == "AdaDelta"
    with pytest.raises(ExperimentError, match=r"optimiser.name: Lion is not allowed; it must be one of SGD, AdaGrad"):
        Optimiser("Lion")


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_change_of_optimiser_goes_on(tiny, backward, name):
    model = tiny()
    updater = Updater(model, Optimiser("Adam", lr=1e-2, weight_decay=1e-3))
    make_step(updater, model, backward)
    updater.set("optimiser", name)
    assert updater.kind == "Adam"  # until the next step
    assert updater.begin() is (name != "Adam")
    backward(model)
    updater.step(2)
    groups = updater.optimiser.param_groups
    assert {group["lr"] for group in groups} == {1e-2}
    assert [group["weight_decay"] for group in groups] == [1e-3, 0.0]
    updater.set("optimiser", "Adam")
    make_step(updater, model, backward, 3)
    assert all(state["step"] == (1 if name != "Adam" else 3) for state in updater.optimiser.state.values())


def test_momentum_can_be_switched_on_in_mid_run(tiny, backward):
    model = tiny()
    updater = Updater(model, Optimiser("RMSprop", momentum=0))
    make_step(updater, model, backward)
    updater.set("momentum", 0.5)
    make_step(updater, model, backward, 2)
    assert all("momentum_buffer" in state for state in updater.optimiser.state.values())


def test_what_a_statement_writes_into_the_groups_is_noticed(tiny):
    updater = Updater(tiny(), Optimiser("SGD", lr=0.5), {"conv1": 0.5})
    for group in updater.optimiser.param_groups:
        if group["lr_pattern"] is None:
            group["lr"] = 0.25
    assert updater.get("lr") == 0.25
    assert {group["lr"] for group in updater.optimiser.param_groups} == {0.25, 0.125}


# --- multipliers ------------------------------------------------------------------------------------


def test_multipliers_scale_the_learning_rate_by_name(tiny, backward):
    scales = {"conv*": 0.5, "conv1": 0.0, "conv2.b": 4.0}
    model = tiny()
    plain = changes(model, lambda: make_step(Updater(model, Optimiser("SGD", lr=0.1)), model, backward))
    for name, p in parameters(model).items():
        p.data -= plain[name]
    scaled = changes(model, lambda: make_step(Updater(model, Optimiser("SGD", lr=0.1), scales), model, backward))
    expected = {"conv.w": 0.5, "conv.b": 0.5, "conv1.w": 0, "conv1.b": 0, "conv2.w": 0.5, "conv2.b": 4}
    for name, change in scaled.items():
        torch.testing.assert_close(change, plain[name] * expected[name], rtol=1e-2, atol=1e-6)


def test_what_is_frozen_keeps_still_and_so_does_its_momentum(tiny, backward):
    model = tiny()
    updater = Updater(model, Optimiser("AdamW", lr=0.1, weight_decay=0.5), {"conv1": 1.0})
    make_step(updater, model, backward)
    state = copy.deepcopy(updater.state()["parameters"]["conv1.w"])
    updater.set("lr_scale.conv1", 0)
    still = changes(model, lambda: make_step(updater, model, backward, 2))
    assert not any(still[name].any() for name in still if "conv1" in name)
    assert all(still[name].any() for name in still if "conv1" not in name)
    after = updater.state()["parameters"]["conv1.w"]
    assert all(torch.equal(value, after[key]) for key, value in state.items())
    updater.set("lr_scale.conv1", 1)
    assert all(change.any() for change in changes(model, lambda: make_step(updater, model, backward, 3)).values())


def test_what_the_model_froze_is_trained_once_it_is_unfrozen(tiny, backward):
    from elektronn_tui.models import freeze, unfreeze

    model = tiny()
    freeze(model, ["conv1"])
    updater = Updater(model, Optimiser("AdaGrad", lr=0.1), clip_norm=100.0)
    still = changes(model, lambda: make_step(updater, model, backward))
    assert {name for name, change in still.items() if not change.any()} == {"conv1.w", "conv1.b"}
    unfreeze(model)
    assert all(change.any() for change in changes(model, lambda: make_step(updater, model, backward, 2)).values())


def test_decay_is_multiplied_where_the_parameter_wants_it(tiny):
    updater = Updater(tiny(), Optimiser("SGD", lr=0.1, weight_decay=0.1), {}, {"conv1": 3.0})
    decays = {}
    for group in updater.optimiser.param_groups:
        for p in group["params"]:
            decays[updater._names[p]] = group["weight_decay"]
    assert decays == pytest.approx(
        {"conv.w": 0.1, "conv1.w": 0.3, "conv2.w": 0.1, "conv.b": 0, "conv1.b": 0, "conv2.b": 0}
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"lr_scales": {"conv11": 0.1}}, "lr_scales: 'conv11' fits no parameter. Did you mean 'conv1'?"),
        ({"lr_scales": {"x*": 0.1}}, "There are those of conv, conv1, conv2, such as conv.w, conv.b"),
        ({"lr_scales": {"conv1": 0.1, "*": 1.0}}, "lr_scales: 'conv1' has no effect: later patterns fit all of its"),
        ({"decay_scales": {"probs": 0.1}}, "decay_scales: 'probs' fits no parameter"),
    ],
)
def test_multipliers_for_nothing_are_refused(make_session, make_experiment, more, message):
    with pytest.raises(ExperimentError) as caught:
        build(make_experiment(**more), make_session())
    assert message in str(caught.value)


@pytest.mark.parametrize("scales", [{"conv": -1}, {"conv": "fast"}, {"conv": math.nan}, ["conv"], {"conv": True}])
def test_multipliers_must_be_numbers(make_experiment, scales):
    with pytest.raises(ExperimentError, match="it must be a dictionary of multipliers"):
        make_experiment(lr_scales=scales)


def test_multipliers_are_controls_that_schedules_may_drive(make_session, make_experiment):
    session = make_session()
    experiment = make_experiment(
        steps=4, lr_scales={"conv*": 0.5, "conv2": 1.0}, schedules={"lr_scale.conv*": Values([(3, 1.0)])}
    )
    trainer = build(experiment, session)
    used = []
    publish = session.publish
    session.publish = lambda step, metrics: (
        used.append(sorted({group["lr"] for group in trainer.optimiser.param_groups})),
        publish(step, metrics),
    )
    trainer.run()
    assert used == [[0.005, 0.01], [0.005, 0.01], [0.01], [0.01]]
    with pytest.raises(ControlError, match=r"lr_scale.conv2: -1 is not allowed; it must be a number ≥ 0"):
        session.controls.set("lr_scale.conv2", -1)


# --- clipping ---------------------------------------------------------------------------------------


def gradients(model):
    return torch.cat([p.grad.flatten() for p in parameters(model).values()])


def test_gradients_are_clipped_by_norm(tiny, backward):
    model = tiny()
    updater = Updater(model, Optimiser("SGD"), clip_norm=0.01)
    backward(model)
    whole = gradients(model).clone()
    norm = make_step(updater, model, backward)
    assert norm == pytest.approx(float(whole.norm()), rel=1e-5)
    torch.testing.assert_close(gradients(model), whole * (0.01 / norm), rtol=1e-3, atol=1e-8)
    updater.set("clip_norm", norm * 2)
    make_step(updater, model, backward, 2)
    assert float(gradients(model).norm()) < norm * 2  # short ones stay as they are


def test_gradients_are_clipped_by_value(tiny, backward):
    model = tiny()
    backward(model)
    limit = float(gradients(model).abs().median())
    expected = gradients(model).clamp(-limit, limit)
    assert make_step(Updater(model, Optimiser("SGD"), clip_value=limit), model, backward) is None
    assert torch.equal(gradients(model), expected)


def test_frozen_parameters_don_t_count_in_the_norm(tiny, backward):
    model = tiny()
    backward(model)
    rest = torch.cat([p.grad.flatten() for name, p in parameters(model).items() if "conv1" not in name])
    updater = Updater(model, Optimiser("SGD"), {"conv1": 0.0}, clip_norm=1.0)
    assert make_step(updater, model, backward) == pytest.approx(float(rest.norm()), rel=1e-5)


@pytest.mark.parametrize("off", [None, 0])
def test_clipping_is_off_where_it_is_none_or_0(tiny, backward, off):
    model = tiny()
    backward(model)
    whole = gradients(model)
    updater = Updater(model, Optimiser("SGD"), clip_norm=off, clip_value=off)
    assert make_step(updater, model, backward) is None
    assert torch.equal(gradients(model), whole)


def test_no_update_is_made_with_gradients_that_are_not_finite(make_session, make_experiment, weights):
    session = make_session()
    trainer = build(make_experiment(on_nan="stop", on_error="stop", clip_norm=1.0), session)
    trainer.model["conv1"].params["w"].register_hook(lambda grad: grad * math.inf)
    before = weights(trainer.model)
    with pytest.raises(BadLossError, match=r"the norm of the gradients is (nan|inf) at step 1"):
        trainer.run()
    assert all(np.array_equal(value, before[key]) for key, value in weights(trainer.model).items())


def test_the_norm_is_published(make_session, make_experiment):
    session = make_session()
    build(make_experiment(steps=20), session).run()
    assert list(session.metrics["grad_norm"]) == [10, 20]
    session = make_session("clipped")
    build(make_experiment(steps=3, clip_norm=1.0), session).run()
    assert list(session.metrics["grad_norm"]) == [1, 2, 3]


# --- accumulation -----------------------------------------------------------------------------------


def test_accumulated_batches_are_one_large_batch(make_session, make_experiment, weights):
    large = build(make_experiment(optimiser=Optimiser("SGD", lr=0.1), batch_size=4), make_session("large"))
    large.run()
    session = make_session("small")
    small = build(make_experiment(optimiser=Optimiser("SGD", lr=0.1), accumulate=4, data_threads=2), session)
    small.run()
    assert small.example == large.example == 24
    assert len(small.batch["raw"]) == 1  # in the memory of one
    for key, value in weights(large.model).items():
        np.testing.assert_allclose(weights(small.model)[key], value, rtol=1e-4, atol=1e-6)
    losses = large.session.metrics["loss"]
    assert list(session.metrics["loss"].values()) == pytest.approx(list(losses.values()), rel=1e-5)


def test_each_example_is_used_once_however_batches_are_accumulated(make_session, make_experiment):
    session = make_session(at={1: lambda session: session.controls.set("accumulate", 3)})
    experiment = make_experiment(
        steps=5, data_threads=2, schedules={"batch_size": Values([(3, 2)])}, control_values={"accumulate": "2"}
    )
    trainer = build(experiment, session)
    seen, batch = [], trainer.supply.batch

    def recording(indices, settings):
        made = batch(indices, settings)
        made["which"] = np.array(list(indices))
        return made

    trainer.supply.batch = recording
    feed = trainer.feed
    trainer.feed = lambda batch: (seen.append(batch["which"].tolist()), feed({k: batch[k] for k in ("raw", "target")}))[
        1
    ]
    trainer.run()
    flat = [[0], [1], [2], [3], [4], *([k, k + 1] for k in range(5, 23, 2))]
    assert seen == flat
    assert (trainer.example, trainer.batches) == (23, 14)


def test_a_bad_batch_within_a_step_begins_the_step_anew(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(steps=2, accumulate=3), session)
    feed, fed = trainer.feed, []

    def poisoned(batch):
        feeds = feed(batch)
        fed.append(1)
        if len(fed) == 2:
            feeds["raw"] = feeds["raw"] * math.nan
        return feeds

    trainer.feed = poisoned
    trainer.run()
    assert (trainer.step, trainer.example, len(fed)) == (2, 8, 8)
    assert len(session.pauses) == 1


# --- averages ---------------------------------------------------------------------------------------


def test_the_moving_average_is_its_closed_form(tiny, backward):
    model = tiny()
    updater = Updater(model, Optimiser("SGD", lr=0.1), averaging="ema", ema_decay=0.3, swa_from=0, swa_every=1)
    expected = None
    for step in range(1, 7):
        make_step(updater, model, backward, step)
        live = {name: p.detach().clone() for name, p in parameters(model).items()}
        decay = min(0.3, step / (step + 9))
        expected = live if expected is None else {k: decay * expected[k] + (1 - decay) * v for k, v in live.items()}
    with updater.averaging.applied():
        for name, p in parameters(model).items():
            torch.testing.assert_close(p.detach(), expected[name])
    for name, p in parameters(model).items():
        assert torch.equal(p, live[name])


def test_the_plain_average_takes_every_nth_step(tiny, backward):
    model = tiny()
    updater = Updater(model, Optimiser("SGD", lr=0.1), averaging="swa", ema_decay=0.9, swa_from=4, swa_every=3)
    kept = []
    for step in range(1, 12):
        make_step(updater, model, backward, step)
        if step in (4, 7, 10):
            kept.append({name: p.detach().clone() for name, p in parameters(model).items()})
        assert updater.averaging.count == len(kept)
    with updater.averaging.applied():
        for name, p in parameters(model).items():
            torch.testing.assert_close(p.detach(), torch.stack([one[name] for one in kept]).mean(0))


def test_running_statistics_are_averaged_with_the_weights():
    from elektronn_tui.models import Conv, Input, Model

    raw = Input((2, 1, 3, 9, 9), "b,f,z,y,x", name="raw")
    model = Model(input_node=raw, prediction_node=Conv(raw, 2, (1, 3, 3), batch_normalisation="train", name="conv"))
    updater = Updater(model, Optimiser("SGD"), averaging="swa", swa_from=0, swa_every=1, ema_decay=0.0)
    means = []
    for step in (1, 2):
        model["conv"].operation.mean.fill_(float(step))
        updater.step(step)
        means.append(float(step))
    with updater.averaging.applied():
        assert model["conv"].operation.mean.tolist() == [1.5, 1.5]
    assert model["conv"].operation.mean.tolist() == [2.0, 2.0]


def test_the_average_is_what_is_validated_predicted_and_exported(make_session, make_experiment, weights, tmp_path):
    from elektronn_tui.models.storage import load_model

    session = make_session()
    trainer = build(make_experiment(steps=4, averaging="ema", validate_every=2, preview_every=4), session)
    validation, preview, seen = trainer.validation, trainer._preview, []
    trainer.validation = lambda: (seen.append(weights(trainer.model)), validation())[1]

    def predicting():
        seen.append(weights(trainer.model))
        return preview()

    trainer._preview = predicting
    trainer.run()
    average = seen[-1]
    assert len(seen) == 4  # previewed before the first step, validated twice, previewed
    last = weights(trainer.model)
    assert any(not np.array_equal(average[key], value) for key, value in last.items())
    kept = trainer.checkpoints.load("latest")
    session.namespace["export"](str(tmp_path / "average.safetensors"))
    for model in (load_model(kept.averaged_file), load_model(tmp_path / "average.safetensors")):
        assert all(np.array_equal(value, average[key]) for key, value in weights(model).items())
    assert all(np.array_equal(value, seen[-2][key]) for key, value in average.items())
    assert all(np.array_equal(value, last[key]) for key, value in weights(load_model(kept.model_file)).items())
    session.namespace["adopt_average"]()
    assert all(np.array_equal(value, average[key]) for key, value in weights(trainer.model).items())
    session.namespace["load"](str(kept.path))
    with pytest.raises(ElektronnError, match="there is no average of the weights"):
        session.namespace["adopt_average"]()  # it was of other weights than those


def test_without_averages_nothing_is_kept_of_them(make_session, make_experiment):
    trainer = build(make_experiment(steps=2), make_session())
    trainer.run()
    assert not trainer.checkpoints.load("latest").averaged_file.exists()
    assert trainer.updater.averaging._averages == []


def test_averaging_that_is_switched_begins_anew(tiny, backward):
    model = tiny()
    updater = Updater(model, Optimiser("SGD", lr=0.1), averaging="ema", ema_decay=0.9, swa_from=0, swa_every=1)
    make_step(updater, model, backward, 1)
    make_step(updater, model, backward, 2)
    updater.set("averaging", "swa")
    assert updater.averaging.count == 2  # nothing is lost before the next step
    make_step(updater, model, backward, 3)
    assert (updater.averaging.mode, updater.averaging.count) == ("swa", 1)
    updater.set("averaging", "none")
    make_step(updater, model, backward, 4)
    assert updater.averaging.count == 0
    before = {name: p.detach().clone() for name, p in parameters(model).items()}
    with updater.averaging.applied():
        assert all(torch.equal(p, before[name]) for name, p in parameters(model).items())


# --- what lowers the learning rate, and shortcuts ---------------------------------------------------


def test_the_rate_is_lowered_where_validation_gets_no_better(make_session, make_experiment):
    scores = [0.5, 0.4, 0.4, math.nan, 0.39, 0.39, 0.45, 0.5, 0.45, 0.1]

    def prepared(name, steps, after=0):
        session = make_session(name)
        trainer = build(make_experiment(steps=steps, validate_every=1, plateau_patience=2, plateau_factor=0.1), session)
        left = iter(scores[after:])
        trainer.validation = lambda: {"valid_loss": 1.0, "valid_balanced_error": next(left)}
        return session, trainer

    session, whole = prepared("whole", 10)
    used, publish = {}, session.publish
    session.publish = lambda step, metrics: (used.update({step: whole.updater.get("lr")}), publish(step, metrics))
    whole.run()
    rates = [1e-2] * 4 + [1e-3] * 3 + [1e-4] * 2 + [1e-5]
    assert list(used.values()) == pytest.approx(rates)
    assert next(text for _, text, _ in session.records) == "validation gets no better, lr 0.01 → 0.001"
    _, first = prepared("first", 3)
    first.run()
    assert (first.plateau.best, first.plateau.stale) == (0.4, 1)
    again, second = prepared("second", 4, after=3)
    second.restore(first.checkpoints.load())
    second.controls.set("steps", 4)
    second.run()
    assert [text for _, text, _ in again.records] == ["validation gets no better, lr 0.01 → 0.001"]


def test_a_rate_of_zero_is_not_lowered(make_session, make_experiment):
    session = make_session()
    experiment = make_experiment(
        steps=3, validate_every=1, plateau_patience=1, schedules={"lr": Values([(1, 0.0)])}, on_error="stop"
    )
    trainer = build(experiment, session)
    trainer.validation = lambda: {"valid_loss": 1.0}
    trainer.run()
    assert session.records == []


def test_shortcuts_set_several_controls_at_once(make_session, make_experiment, tiny):
    session = make_session()
    experiment = make_experiment(model=lambda: tiny(0.5), lr_scales={"conv": 1.0, "conv1": 1.0})
    trainer = build(experiment, session)
    trainer.prefetcher.close()
    names, controls = session.namespace, session.controls
    assert names["dropout"](0.25) == ["conv.dropout_rate"]
    assert trainer.model["conv"].dropout_rate == 0.25
    assert names["setall"]("lr_scale.*", 0) == ["lr_scale.conv", "lr_scale.conv1"]
    assert controls["lr_scale.conv1"].get() == 0
    with pytest.raises(ControlError, match="no control is called like 'lr_scales"):
        names["setall"]("lr_scales.*", 0)
    with pytest.raises(ControlError, match=r"conv.dropout_rate: 2 is not allowed"):
        names["dropout"](2)
    names["setmom"](0.5)
    names["setwd"](0.1)
    assert (controls["betas"].get(), controls["weight_decay"].get()) == ((0.5, 0.999), 0.1)
    controls.set("optimiser", "SGD")
    names["setmom"](0.25)
    assert controls["momentum"].get() == 0.25
