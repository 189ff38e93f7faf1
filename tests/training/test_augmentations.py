"""What may happen to examples, as settings and controls of a training."""

from __future__ import annotations

import numpy as np
import pytest

from elektronn_tui.data import ArraySource, Blur, Missing, Noise, Pair, Warp
from elektronn_tui.errors import ExperimentError
from elektronn_tui.models import AggregateLoss, Conv, Input, Input_like, Model, MultinoulliNLL, Perceptron, Softmax
from elektronn_tui.training.arrays import Arrays
from elektronn_tui.training.augmentations import AUGMENTATIONS, OF_SECTIONS
from elektronn_tui.training.datasets import Volumes
from elektronn_tui.training.experiment import load_experiment
from elektronn_tui.training.runner import build

VOLUME = np.random.default_rng(0).integers(0, 256, (12, 60, 60), dtype=np.uint8)


class Opened:
    """Data that are there already."""

    def __init__(self, opened):
        self.opened = opened

    def open(self):
        return self.opened


def finished(raw, scores):
    probs = Softmax(scores, name="probs")
    target = Input_like(probs, override_f=1, dtype="int64", name="target")
    loss = AggregateLoss([MultinoulliNLL(probs, target, target_is_sparse=True, name="nll")], name="loss")
    return Model(input_node=raw, target_node=target, loss_node=loss, prediction_node=probs)


def image_model():
    raw = Input((None, 1, 9, 9), "b,f,y,x", name="raw")
    return finished(raw, Perceptron(Conv(raw, 3, (3, 3), (1, 1)), 2, "lin", flatten=True))


def section_model():
    raw = Input((1, 1, 9, 9), "b,f,y,x", name="raw")
    return finished(raw, Conv(raw, 2, (3, 3), (1, 1), activation_func="lin"))


def vector_model():
    raw = Input((None, 3), "b,f", name="raw")
    return finished(raw, Perceptron(raw, 2, "lin"))


def images():
    return Opened(Arrays(train=np.zeros((8, 1, 9, 9), np.uint8), train_target=np.arange(8) % 2, name="images"))


def volumes(voxel_size=None):
    return Opened(Volumes([Pair(ArraySource(VOLUME, voxel_size=voxel_size), VOLUME // 128)]))


def test_all_are_controls_of_a_network_that_reads_sections(make_session, make_experiment):
    session = make_session()
    build(make_experiment(data=volumes(), noise=0.25), session).prefetcher.close()
    values = {name: session.controls[name].get() for name in AUGMENTATIONS}
    assert values == {name: {"warp": 0.5, "grey": 0.5, "noise": 0.25}.get(name, 0.0) for name in AUGMENTATIONS}
    for name in AUGMENTATIONS:
        assert session.controls[name].limits() == "a number ≥ 0 and ≤ 1"
        assert "probability that" in session.controls[name].help


def test_an_edit_counts_from_the_next_step(make_session, make_experiment):
    seen = {}
    session = make_session(at={2: lambda session: session.controls.set("missing", 1.0)})
    trainer = build(make_experiment(data=volumes(), steps=4, warp=0.0, grey=0.0), session)
    publish = session.publish

    def published(step, metrics):
        if "loss" in metrics:
            raw = trainer.batch["raw"]
            seen[step] = bool((raw == raw[..., :1, :1]).all((0, 1, 3, 4)).any())
        publish(step, metrics)

    session.publish = published
    trainer.run()
    assert seen == {1: False, 2: False, 3: True, 4: True}


def test_how_far_is_a_setting_and_knows_how_long_the_voxels_are(make_session, make_experiment):
    experiment = make_experiment(data=volumes((50, 5, 5)), blur_args=Blur(sigma=3), missing_args=Missing(number=2))
    trainer = build(experiment, make_session())
    trainer.prefetcher.close()
    assert trainer.augmentation.blur_args == Blur(sigma=3)
    assert trainer.augmentation.missing_args == Missing(number=2)
    assert trainer.augmentation.blobs_args.anisotropy == 10
    experiment = make_experiment(data=volumes((50, 5, 5)), warp_args=Warp(anisotropy=10, sample_aniso=False))
    trainer = build(experiment, make_session("isotropic"))
    trainer.prefetcher.close()
    assert trainer.augmentation.blobs_args.anisotropy == 1  # of the patch


@pytest.mark.parametrize(("model", "data"), [(image_model, images), (section_model, volumes)])
def test_what_needs_sections_is_refused_for_single_ones(make_session, make_experiment, model, data):
    session = make_session()
    build(make_experiment(model=model, data=data(), blobs=0.5), session).prefetcher.close()
    assert {*AUGMENTATIONS} - {*OF_SECTIONS} == {*AUGMENTATIONS} & {*session.controls.names()}
    for name, more in (
        ("missing", {"missing": 0.1}),
        ("faint", {"faint": 1.0}),
        ("missing_args", {"missing_args": Missing()}),
    ):
        with pytest.raises(ExperimentError, match=f"^{name}: .* is not allowed; it is for patches of several sections"):
            build(make_experiment(model=model, data=data(), **more), make_session(name + "d"))


@pytest.mark.parametrize("more", [{"blur": 0.5}, {"noise_args": Noise()}, {"missing": 0.1}])
def test_vectors_are_used_as_they_are(make_session, make_experiment, more):
    data = Opened(Arrays(train=np.zeros((4, 3)), train_target=np.array([0, 1, 0, 1]), name="vectors"))
    with pytest.raises(ExperimentError, match=f"^{next(iter(more))}: .*images without a target image; vectors for"):
        build(make_experiment(model=vector_model, data=data, **more), make_session())


def test_settings_as_text(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from elektronn_tui import DemoData, Experiment\nexperiment = Experiment(model=lambda: None, data=DemoData())\n"
    )
    made = load_experiment(path, ["blur=0.2", "blur_args.sigma=(1, 2)", "missing_args.number=3"])
    assert (made.blur, made.blur_args, made.missing_args) == (0.2, Blur(sigma=(1, 2)), Missing(number=3))
    for override, message in [
        ("blur=2", "blur: 2 is not allowed; it must be a number ≥ 0 and ≤ 1"),
        ("blur_args=3", r"blur_args: 3 is not allowed; it must be Blur\(...\)"),
        ("noise_args.level=7", "noise_args.level=7: level: Noise: level=7"),
        ("faint_args.kontrast=1", "Did you mean 'contrast'"),
    ]:
        with pytest.raises(ExperimentError, match=message):
            load_experiment(path, [override])
