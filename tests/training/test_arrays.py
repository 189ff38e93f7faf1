import logging
from dataclasses import dataclass, field

import h5py
import numpy as np
import pytest
import torch

from elektronn_tui.data import Grey, Warp
from elektronn_tui.errors import DataError, ElektronnError, ExperimentError
from elektronn_tui.models import (
    AggregateLoss,
    Conv,
    GaussianRV,
    Input,
    Input_like,
    Model,
    MultinoulliNLL,
    Perceptron,
    Softmax,
)
from elektronn_tui.training.arrays import Arrays, ImageData
from elektronn_tui.training.batches import Feeder
from elektronn_tui.training.classes import Classes
from elektronn_tui.training.runner import build
from elektronn_tui.training.schedules import Values


@dataclass(frozen=True)
class InMemory:
    """Any arrays as an experiment's data."""

    arrays: dict = field(default_factory=dict)

    def open(self):
        return Arrays(**self.arrays)


def bars(n=60, size=10):
    """Images with a bright row (class 0) or column (class 1), and noise."""
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 2, n)
    images = generator.integers(0, 80, (n, size, size), np.uint8)
    for image, label, place in zip(images, labels, generator.integers(2, size - 2, n), strict=True):
        (image if label == 0 else image.T)[place] += 150
    return images, labels


def bars_data(**more):
    images, labels = bars()
    return InMemory(
        {"train": images[:40], "train_target": labels[:40], "valid": images[40:], "valid_target": labels[40:]} | more
    )


def finished(raw, scores, n_indep=1):
    probs = Softmax(scores, n_indep=n_indep, name="probs")
    target = Input_like(probs, override_f=n_indep, dtype="int64", name="target")
    loss = AggregateLoss([MultinoulliNLL(probs, target, target_is_sparse=True, name="nll")], name="loss")
    return Model(input_node=raw, target_node=target, loss_node=loss, prediction_node=probs)


def image_model():
    raw = Input((None, 1, 8, 8), "b,f,y,x", name="raw")
    out = Perceptron(Conv(raw, 6, (3, 3), (2, 2), name="conv"), 2, "lin", flatten=True, name="scores")
    return finished(raw, out)


def vector_model(features=3):
    raw = Input((None, features), "b,f", name="raw")
    return finished(raw, Perceptron(Perceptron(raw, 8, name="hidden"), 2, "lin", name="scores"))


def identity_model(shape=(None, 1, 8, 8)):
    """An autoencoder without a target."""
    raw = Input(shape, "b,f,y,x", name="raw")
    code = Perceptron(raw, 4, "tanh", flatten=True, name="code")
    out = Perceptron(code, 64, "lin", name="out")
    loss = AggregateLoss([out], name="loss")
    return Model(input_node=raw, loss_node=loss, prediction_node=out)


def test_images_with_a_label_are_learnt(make_session, make_experiment):
    session = make_session()
    experiment = make_experiment(
        model=image_model, data=bars_data(shift=1), steps=120, batch_size=8, validate_every=60, validate_patches=20,
        warp=0.0, grey=0.3,
    )  # fmt: skip
    trainer = build(experiment, session)
    trainer.run()
    assert session.metrics["valid_error"][120] <= 0.1
    assert session.metrics["valid_loss"][120] < session.metrics["valid_loss"][60]
    assert session.metrics["error"]
    assert {"warp", "grey", "shift", "batch_size"} <= set(session.controls.names())
    assert session.controls["shift"].get() == 1
    scaled = trainer.supply.plain(range(40))["raw"]
    assert scaled.shape == (40, 1, 8, 8)
    assert len(trainer.model.scaling["mean"]) == 1


def test_mean_and_deviation_of_the_training_images_scale_all(make_session, make_experiment):
    trainer = build(make_experiment(model=image_model, data=bars_data()), make_session())
    images = bars()[0][:40].astype(float)
    assert trainer.model.scaling["mean"] == pytest.approx([images.mean()])
    assert trainer.model.scaling["std"] == pytest.approx([images.std()])
    valid = trainer.validation._batches[0]["raw"]
    np.testing.assert_allclose(valid[0, 0], (bars()[0][40 + 0][1:-1, 1:-1] - images.mean()) / images.std(), rtol=1e-4)
    trainer = build(make_experiment(model=image_model, data=bars_data(), scaling="dtype"), make_session("dtype"))
    assert trainer.model.scaling == {"mean": [0.0], "std": [255.0]}


def test_vectors_are_learnt_and_have_no_controls_of_images(make_session, make_experiment, caplog):
    caplog.set_level(logging.INFO)
    values = np.random.default_rng(0).normal(size=(200, 3)) * (1, 100, 1)
    labels = (values[:, 1] > 0).astype(np.int16)
    data = InMemory({"train": values, "train_target": labels, "valid": values, "valid_target": labels[:, None]})
    session = make_session()
    build(make_experiment(model=vector_model, data=data, steps=150, batch_size=10, validate_every=150), session).run()
    assert session.metrics["valid_error"][150] < 0.1
    assert not {"warp", "grey", "shift"} & set(session.controls.names())
    assert sum("no previews" in record.message for record in caplog.records) == 1
    assert not session.previews
    assert session.on_preview is None
    assert session.status["no_preview"] == "the prediction [(None,b), (2,f)] is no image like the input"
    with pytest.raises(ElektronnError, match="makes no previews: the prediction"):
        session.namespace["preview"]()


def test_sequences_reach_the_node_in_its_order_of_axes(make_session, make_experiment):
    sequences = np.arange(5 * 3 * 2).reshape(5, 3, 2).astype(np.float32)  # (n, r, f)
    raw = Input((3, None, 2), "r,b,f", name="raw")
    model = Model(input_node=raw, loss_node=AggregateLoss([raw], name="loss"), prediction_node=raw)
    fed = Feeder(model, torch.device("cpu"))({"raw": sequences})["raw"]
    np.testing.assert_array_equal(fed.numpy(), sequences.transpose(1, 0, 2))
    assert fed.is_contiguous()


def test_a_model_without_a_target_trains_and_shows_reconstructions(make_session, make_experiment):
    images = bars()[0]
    session = make_session()
    experiment = make_experiment(
        model=identity_model, data=InMemory({"train": images, "valid": images[:12]}), steps=4, validate_every=2,
        preview_every=2,
    )  # fmt: skip
    build(experiment, session).run()
    assert set(session.metrics) >= {"loss", "valid_loss"}
    assert "valid_error" not in session.metrics
    info, pictures = session.previews[-1]
    assert list(pictures) == ["raw", "reconstruction"]
    assert pictures["raw"].shape == pictures["reconstruction"].shape == (12, 8, 8)
    assert (info.depth, info.captions) == (12, ("raw", "reconstruction"))
    np.testing.assert_array_equal(pictures["raw"], images[:12, 1:-1, 1:-1])
    assert (session.run_dir / "previews" / "step-000000002.png").exists()


def test_volumes_train_a_model_without_a_target(make_session, make_experiment):
    def model():
        raw = Input((1, 1, 3, 15, 15), "b,f,z,y,x", name="raw")
        out = Conv(raw, 1, (1, 3, 3), activation_func="tanh", name="out")
        return Model(input_node=raw, loss_node=AggregateLoss([out], name="loss"), prediction_node=out)

    session = make_session()
    build(make_experiment(model=model, steps=2, validate_every=2), session).run()
    assert set(session.metrics) >= {"loss", "valid_loss"}


@pytest.mark.parametrize("threads", [0, 3])
def test_a_resumed_run_has_the_bits_of_one_that_was_not_interrupted(make_session, make_experiment, weights, threads):
    settings = {
        "model": image_model, "data": bars_data(), "batch_size": 3, "warp": 0.5, "grey": 0.5, "data_threads": threads,
        "schedules": {"shift": Values([(1, 0), (10, 2)])},
    }  # fmt: skip
    whole = build(make_experiment(steps=20, **settings), make_session("whole"))
    whole.run()
    first = build(make_experiment(steps=9, **settings), make_session("first"))
    first.run()
    second = build(make_experiment(steps=20, **settings), make_session("second"))
    second.restore(first.checkpoints.load())
    second.controls.set("steps", 20)
    second.run()
    assert second.example == whole.example == 60
    for key, value in weights(whole.model).items():
        np.testing.assert_array_equal(weights(second.model)[key], value)


def test_edits_of_the_shift_count_from_the_next_step(make_session, make_experiment):
    images = np.zeros((4, 10, 10), np.uint8)
    images[:, 5, 5] = 255
    session = make_session(at={3: lambda session: session.controls.set("shift", 3)})
    data = InMemory({"train": images, "train_target": np.array([0, 1, 0, 1])})
    trainer = build(make_experiment(model=image_model, data=data, steps=6, batch_size=8, warp=0.0, grey=0.0), session)
    places = {}
    publish = session.publish
    session.publish = lambda step, metrics: (
        places.__setitem__(step, {int(np.argmax(raw)) for raw in trainer.batch["raw"]}),
        publish(step, metrics),
    )
    trainer.run()
    assert [len(places[step]) for step in (1, 2, 3)] == [1, 1, 1]
    assert all(len(places[step]) > 1 for step in (4, 5, 6))


def test_groups_of_classes_are_counted_together():
    raw = Input((None, 4), "b,f", name="raw")
    classes = Classes.of(finished(raw, raw, n_indep=2))
    prediction = torch.tensor([[0.9, 0.1, 0.2, 0.8], [0.6, 0.4, 0.7, 0.3]])
    counts = classes.count(prediction, torch.tensor([[0, 0], [1, -1]]))
    assert counts.tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"train": np.zeros((40, 6, 8), np.uint8)}, ExperimentError, "but raw is .*: axis y has 6 entries, 8 at least"),
        ({"train": np.zeros((40, 8), np.uint8)}, ExperimentError, r"\(40, 8\), but raw is .*: \(examples, f, y, x"),
        ({"train": np.zeros((40, 3, 8, 8), np.uint8)}, ExperimentError, "axis f has 3 entries, 1 are needed"),
        ({"train_target": None}, ExperimentError, "data has no target for training, but the model has one, target"),
        ({"valid_target": None}, ExperimentError, "data has no target for validation"),
        ({"train_target": np.full(40, 2)}, DataError, "training is 2; with 2 classes of probs class ids are 0 to 1"),
        ({"valid_target": np.full(20, -1)}, DataError, "no target for validation counts"),
        ({"train_target": np.zeros(40)}, ExperimentError, "its target target takes int64, but data holds float64"),
        ({"train_target": np.zeros((40, 2), int)}, ExperimentError, "but target is .*: axis f has 2 entries"),
        ({"train_target": np.zeros(30, int)}, DataError, "40 inputs, but 30 targets"),
        ({"train": np.zeros((0, 8, 8), np.uint8), "train_target": np.zeros(0, int)}, DataError, "the inputs are empty"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_the_network(make_session, make_experiment, changed, error, message):
    with pytest.raises(error, match=message):
        build(make_experiment(model=image_model, data=bars_data(**changed)), make_session())


def test_a_class_without_an_example_is_told(make_session, make_experiment, caplog):
    build(make_experiment(model=image_model, data=bars_data(train_target=np.zeros(40, int))), make_session())
    assert "there is no example for training of class 1" in caplog.text


def test_other_things_than_volumes_and_arrays_are_refused(make_session, make_experiment):
    class Wrong:
        def open(self):
            return {"train": 1}

    with pytest.raises(ExperimentError, match=r"data: open\(\) returned dict; it must return Volumes or Arrays"):
        build(make_experiment(data=Wrong()), make_session())


def test_controls_of_images_are_unknown_to_vectors(make_session, make_experiment):
    data = InMemory({"train": np.zeros((4, 3)), "train_target": np.array([0, 1, 0, 1])})
    with pytest.raises(ExperimentError, match="schedules: no control is called 'shift'"):
        build(make_experiment(model=vector_model, data=data, schedules={"shift": Values([(1, 2)])}), make_session())


@pytest.mark.parametrize(("more", "shift"), [({"warp_args": Warp()}, 0), ({"grey_args": Grey()}, 0), ({}, 2)])
def test_what_varies_images_is_refused_for_vectors(make_session, make_experiment, more, shift):
    data = InMemory({"train": np.zeros((4, 3)), "train_target": np.array([0, 1, 0, 1]), "shift": shift})
    with pytest.raises(ExperimentError, match=rf"{next(iter(more), 'shift')}: it is for images without a target image"):
        build(make_experiment(model=vector_model, data=data, **more), make_session())


@pytest.fixture
def image_file(tmp_path):
    path = tmp_path / "images.h5"
    images, labels = bars()
    order = np.argsort(labels, kind="stable")
    with h5py.File(path, "w") as file:
        file["images"], file["labels"] = images[order], labels[order]
        file["few"] = labels[:10]
        file["values"] = labels.astype(np.float32)
    return path


def test_images_of_a_file_are_held_out_at_random(image_file):
    opened = ImageData(path=str(image_file), valid_fraction=0.25).open()
    assert (len(opened.train), len(opened.valid)) == (45, 15)
    assert set(opened.valid_target.tolist()) == {0, 1}  # though the file is sorted by class
    together = np.concatenate([opened.train, opened.valid])
    images = bars()[0]
    assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in images)
    again = ImageData(path=str(image_file), valid_fraction=0.25).open()
    np.testing.assert_array_equal(again.valid, opened.valid)
    other = ImageData(path=str(image_file), valid_fraction=0.25, seed=2).open()
    assert not np.array_equal(other.valid, opened.valid)
    assert ImageData(path=str(image_file), valid_fraction=0).open().valid is None
    assert ImageData(path=str(image_file), label_key=None).open().train_target is None


def test_digits_are_drawn_where_there_is_no_file():
    opened = ImageData(digits=50, shift=2).open()
    assert (opened.train.shape, opened.valid.shape, opened.shift) == ((40, 28, 28), (10, 28, 28), 2)
    assert opened.train.dtype == np.uint8
    assert len(opened.train_target) == 40


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_key": "image"}, "has no dataset 'image'; it holds few, images, labels, values. Did you mean 'images'"),
        ({"label_key": "few"}, r"few has the shape \(10,\).*integers of the shape \(60,\)"),
        ({"label_key": "values"}, "values .* holds float32; integers"),
        ({"image_key": "labels"}, r"labels has the shape \(60,\) .*\(n, y, x\) or \(n, channel, y, x\) are needed"),
        ({"valid_fraction": 0.001}, "data.valid_fraction: 0.001 of 60 images can't be held out"),
    ],
)
def test_image_files_that_do_not_hold_what_is_wanted(image_file, settings, message):
    with pytest.raises(DataError, match=message):
        ImageData(path=str(image_file), **settings).open()


def test_image_files_that_are_missing_or_something_else(tmp_path):
    with pytest.raises(ExperimentError, match=r"data\.path: there is no file .*none\.h5"):
        ImageData(path=str(tmp_path / "none.h5")).check_files()
    with pytest.raises(ExperimentError, match="is a folder"):
        ImageData(path=str(tmp_path)).check_files()
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(DataError, match=r"text\.h5 can't be read: it is no HDF5 file"):
        ImageData(path=str(tmp_path / "text.h5")).open()


def test_random_nodes_of_a_validation_take_no_numbers_from_training(make_session, make_experiment, weights):
    def model():
        raw = Input((None, 1, 8, 8), "b,f,y,x", name="raw")
        mean = Perceptron(raw, 3, "lin", flatten=True, name="mean")
        state = GaussianRV(mean, Perceptron(raw, 3, "lin", flatten=True, name="deviation"), name="state")
        out = Perceptron(state, 64, "lin", name="out")
        return Model(input_node=raw, loss_node=AggregateLoss([out], name="loss"), prediction_node=out)

    images = bars()[0]
    data = InMemory({"train": images, "valid": images[:12]})
    often, never = make_session("often"), make_session("never")
    first = build(make_experiment(model=model, data=data, steps=6, validate_every=1, preview_every=2), often)
    first.run()
    second = build(make_experiment(model=model, data=data, steps=6), never)
    second.run()
    for key, value in weights(first.model).items():
        np.testing.assert_array_equal(weights(second.model)[key], value)
