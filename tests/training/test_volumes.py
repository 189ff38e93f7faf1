"""What is said of volumes by settings: masks, weights, offsets, what is held out, what examples hold, other targets."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from elektronn_tui.errors import DataError, ExperimentError
from elektronn_tui.training.experiment import DemoData, VolumeData
from elektronn_tui.training.runner import build
from elektronn_tui.training.settings import from_text

SHAPE = (20, 40, 40)


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume.h5"
    generator = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["raw"] = generator.integers(0, 255, SHAPE, np.uint8)
        file["raw"].attrs["resolution"] = (40.0, 4.0, 4.0)
        file["ids"] = np.repeat(np.arange(1, 11, dtype=np.uint64), 4)[None, None].repeat(20, 0).repeat(40, 1)
        file["classes"] = generator.integers(0, 2, SHAPE, np.uint8)
        file["part"] = file["classes"][4:14, 10:30, 10:30]
        file["known"] = (np.arange(40) >= 20).astype(np.uint8)[None, None].repeat(20, 0).repeat(40, 1)
        file["field"] = generator.normal(size=(3, *SHAPE)).astype(np.float32)
    return path


def labelled(volume, key="classes", **more):
    return VolumeData(path=str(volume), label_key=key, target="labels", **({"valid_slices": 6} | more))


def small(outputs=2, lazy=(), shape=(1, 1, 3, 15, 15), target_f=1):
    """Return a function that makes a small network, in 2D or 3D by its input."""

    def model():
        from elektronn_tui.models import AggregateLoss, Conv, Input, Input_like, Model, MultinoulliNLL, Softmax

        flat = len(shape) == 4
        raw = Input(shape, "b,f,y,x" if flat else "b,f,z,y,x", name="raw")
        out = Conv(raw, 4, (4, 4) if flat else (1, 4, 4), (2, 2) if flat else (1, 2, 2))
        last = Conv(out, outputs * target_f, (1,) * (2 if flat else 3), activation_func="lin")
        probs = Softmax(last, n_indep=target_f, name="probs")
        target = Input_like(probs, override_f=target_f, dtype="int64", name="target")
        masks = {name: Input((None, outputs * target_f), "b,f", name=name) for name in lazy}
        nll = MultinoulliNLL(probs, target, target_is_sparse=True, name="nll", **masks)
        loss = AggregateLoss([nll], name="loss")
        return Model(input_node=raw, target_node=target, loss_node=loss, prediction_node=probs)

    return model


def scalar(kind="class"):
    """Return a function that makes a network that says one thing of a whole patch: a class or two numbers."""

    def model():
        from elektronn_tui.models import (
            AggregateLoss,
            Conv,
            Input,
            Input_like,
            Model,
            MultinoulliNLL,
            Perceptron,
            Softmax,
            SquaredLoss,
        )

        raw = Input((2, 1, 4, 12, 12), "b,f,z,y,x", name="raw")
        out = Perceptron(Conv(raw, 3, (1, 3, 3), (2, 2, 2)), 2, activation_func="lin", flatten=True)
        if kind == "numbers":
            target = Input_like(out, name="target")
            loss = AggregateLoss([SquaredLoss(out, target)], name="loss")
            return Model(input_node=raw, target_node=target, loss_node=loss, prediction_node=out)
        probs = Softmax(out, name="probs")
        target = Input_like(probs, override_f=1, dtype="int64", name="target")
        loss = AggregateLoss([MultinoulliNLL(probs, target, target_is_sparse=True, name="nll")], name="loss")
        return Model(input_node=raw, target_node=target, loss_node=loss, prediction_node=probs)

    return model


def trained(make_experiment, make_session, data, model, name="run", **more):
    session = make_session(name)
    trainer = build(make_experiment(**{"data": data, "model": model, "steps": 2, "validate_every": 2} | more), session)
    trainer.run()
    assert np.isfinite(session.metrics["loss"][2])
    if trainer.validation:
        assert np.isfinite(session.metrics["valid_loss"][2])
    return trainer


def test_walls_across_thick_sections_need_not_count(volume):
    with h5py.File(volume, "r+") as file:
        file["ids"][10:] += np.uint64(20)
    both = VolumeData(path=str(volume), label_key="ids", thickness=2, valid_slices=0).open().train[0].target
    flat = VolumeData(path=str(volume), label_key="ids", thickness=(0, 2, 2), valid_slices=0).open().train[0].target
    assert both.read((0, 0, 0), SHAPE)[0, 9:11].all()
    assert flat.read((0, 0, 0), SHAPE)[0, 9].sum() == 40 * 18
    demo = {"shape": (16, 48, 48), "anisotropic": True, "valid_slices": 4}
    sections = DemoData(**demo).open().train[0].target.read((0, 0, 0), (16, 48, 48))
    np.testing.assert_array_equal(
        sections, DemoData(thickness=(0, 2, 2), **demo).open().train[0].target.read((0, 0, 0), (16, 48, 48))
    )
    for text, value in (("2", (2,)), ("0,2,2", (0, 2, 2)), ("(0, 2, 2)", (0, 2, 2))):
        assert from_text(VolumeData(path=str(volume)), "thickness", text) == value
    for wrong in ((0, 0, 0), (2, 2)):
        with pytest.raises(ExperimentError, match="it must be one number, or three for z, y, x that are not all 0"):
            VolumeData(path=str(volume), thickness=wrong)


def test_masks_weights_and_offsets_of_volumes(volume):
    one = VolumeData(path=str(volume), label_key="ids", mask_key="known", valid_slices=4).open().train[0]
    assert one.mask.read((0, 0, 0), (1, 1, 40))[0, 0, 0].tolist() == [0] * 20 + [1] * 20
    pair, mask = (f"{volume}:raw", f"{volume}:ids"), f"{volume}:known"
    several = VolumeData(volumes=[pair, pair], masks=[mask, mask], weights=(3, 1), valid_slices=0).open().train
    assert [one.weight for one in several] == [3.0, 1.0]
    assert all(one.mask is not None for one in several)
    held_out = VolumeData(volumes=[pair], valid_volumes=[pair], valid_masks=[mask])
    held_out.check_files()
    assert held_out.open().train[0].mask is None
    assert held_out.open().valid[0].mask.read((0, 0, 0), (1, 1, 40))[0, 0, 0].tolist() == [0] * 20 + [1] * 20
    placed = VolumeData(path=str(volume), label_key="part", target_offset=(4, 10, 10), valid_slices=0).open().train[0]
    assert placed.region == ((4, 10, 10), (14, 30, 30))
    part = (f"{volume}:raw", f"{volume}:part")
    each = VolumeData(volumes=[part, part], target_offset=[(0, 0, 0), (1, 2, 3)], valid_slices=0).open().train
    assert [one.target_offset for one in each] == [(0, 0, 0), (1, 2, 3)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"masks": ["x.h5:mask"]}, "data.masks: 1 for 2 volumes; give one for each"),
        ({"valid_masks": ["x.h5:mask"]}, "data.valid_masks: 1 for 0 valid_volumes; give one for each"),
        ({"weights": (1.0,)}, r"data.weights: \[1.0\] for 2 volumes; give one number for each, not all 0"),
        ({"weights": (0, 0)}, "give one number for each, not all 0"),
        ({"mask_key": "known"}, "data.mask_key: it names a dataset in path, which isn't given; use masks="),
        ({"target_offset": [(0, 0, 0)]}, "data.target_offset: 1 for 2 volumes; give one for each, or one for all"),
        ({"target_offset": (0, 0)}, r"data.target_offset: \(0, 0\) is not allowed; it must be \(z, y, x\) in raw"),
        ({"valid_indices": (2,)}, "data.valid_indices: there is no volume 2; 0 to 1 are given"),
        ({"valid_indices": (0, 1)}, "data.valid_indices: all volumes are held out"),
        ({"valid_indices": (0,), "valid_box": ((0, 0, 0), (9, 9, 9))}, "valid_indices and valid_box are both given"),
        ({"valid_box": ((0, 0, 0), (0, 9, 9))}, "data.valid_box: .* it must be a box such as"),
        ({"labelled": {2: [0]}}, r"data.labelled: \{2: \[0\]\} for 2 volumes, numbered from 0"),
        ({"absent": [(0, 1)]}, "it must be classes by the number of the volume"),
        ({"absent": {0: [1]}, "lazy_labels": True}, "data.absent: lazy_labels reads it from files"),
        ({"balance": 2.0}, "data.balance"),
        ({"class_shares": (1, 1)}, "data: class_shares are given, but balance is 0"),
        ({"vectors": [(0, 1)]}, "it must be a list of triples of channels"),
        ({"vectors": [(0, 1, 2)]}, "data.vectors: it is for target='labels', not for 'boundaries'"),
        ({"volumes": [("a.h5:raw",)]}, "it must be a list of pairs"),
        ({"volumes": [("a.h5:raw", True)]}, "it must be a list of pairs"),
    ],
)
def test_settings_that_make_no_sense(wrong, message):
    with pytest.raises(ExperimentError, match=message):
        VolumeData(**{"volumes": [("a.h5:raw", "a.h5:ids")] * 2} | wrong)


def test_volumes_and_boxes_are_held_out(volume):
    pair = (f"{volume}:raw", f"{volume}:classes")
    opened = VolumeData(volumes=[pair] * 3, valid_indices=(1,), weights=(1, 2, 3), target="labels").open()
    assert [one.weight for one in opened.train] == [1.0, 3.0]
    assert [one.region for one in opened.valid] == [((0, 0, 0), SHAPE)]
    assert opened.split == "data.valid_indices=[1]"
    box = ((0, 10, 10), (20, 20, 30))
    opened = labelled(volume, valid_box=box).open()
    assert opened.valid[0].region == box
    assert len(opened.train) == 4
    with pytest.raises(DataError, match=r"data\.valid_box: pair .*volume\.h5:raw: .* holds no voxel of its region"):
        labelled(volume, valid_box=((30, 0, 0), (40, 9, 9))).open()
    assert from_text(labelled(volume), "valid_box", "((0, 1, 2), (3, 4, 5))") == ((0, 1, 2), (3, 4, 5))


def test_a_box_is_validated_on(volume, make_session, make_experiment):
    box = ((2, 16, 0), (18, 40, 40))
    trainer = trained(make_experiment, make_session, labelled(volume, valid_box=box), small(), warp=1.0)
    assert trainer.validation is not None
    thin = labelled(volume, valid_box=((0, 4, 4), (20, 40, 40)))
    with pytest.raises(DataError, match=r"training \(data\.valid_box=.*doesn't fit"):
        trained(make_experiment, make_session, thin, small(), name="thin")


def test_masks_and_limits_reach_the_loss(volume, make_session, make_experiment):
    data = labelled(volume, mask_key="known", most_ignored=0.1, balance=0.5)
    trainer = trained(make_experiment, make_session, data, small(), warp=0.5)
    target = trainer.batch["target"]
    assert (target < 0).mean() <= 0.1
    with pytest.raises(DataError, match=r"class_shares=\[1.0, 0.0, 1.0\]: 3 numbers, but .* has 2 classes; give 2"):
        trained(
            make_experiment, make_session, labelled(volume, balance=1, class_shares=(1, 0, 1)), small(), name="shares"
        )


@pytest.mark.parametrize("ignored", ["mask", "value", "negative"])
def test_what_is_ignored_never_enters_the_loss(volume, make_session, make_experiment, ignored):
    """Two runs whose labels differ in what doesn't count alone are the same, weight by weight."""
    hidden = np.zeros(SHAPE, bool)
    hidden[:, :, :20] = True
    losses = []
    for k, other in enumerate({"mask": (0, 1), "value": (5, 6), "negative": (-1, -7)}[ignored]):
        with h5py.File(volume, "r") as file:
            classes = np.where(hidden, other, file["classes"][:].astype(np.int64))
        path = volume.with_name(f"{ignored}{k}.h5")
        with h5py.File(path, "w") as file, h5py.File(volume, "r") as whole:
            file["raw"], file["classes"], file["known"] = whole["raw"][:], classes, (~hidden).astype(np.uint8)
        more = {"mask": {"mask_key": "known"}, "value": {"ignore": (5, 6)}, "negative": {}}[ignored]
        session = make_session(f"run{k}")
        build(make_experiment(data=labelled(path, **more), model=small(), steps=4, warp=1.0), session).run()
        losses.append([session.metrics["loss"][step] for step in range(1, 5)])
    assert losses[0] == losses[1]


def regression():
    from elektronn_tui.models import AggregateLoss, Conv, Input, Input_like, Model, SquaredLoss

    raw = Input((1, 1, 3, 15, 15), "b,f,z,y,x", name="raw")
    out = Conv(raw, 1, (1, 4, 4), (1, 2, 2), activation_func="lin", name="out")
    target = Input_like(out, dtype="float32", name="target")
    loss = AggregateLoss([SquaredLoss(out, target)], name="loss")
    return Model(input_node=raw, target_node=target, loss_node=loss, prediction_node=out)


def test_unknown_integers_count_for_a_regression_as_little_as_nan(volume, make_session, make_experiment):
    hidden = np.zeros(SHAPE, bool)
    hidden[:, :, :20] = True
    losses = []
    for kind, unknown in (("i8", -3), ("f4", np.nan)):
        path = volume.with_name(f"{kind}.h5")
        with h5py.File(path, "w") as file, h5py.File(volume, "r") as whole:
            file["raw"], file["classes"] = (
                whole["raw"][:],
                np.where(hidden, unknown, whole["classes"][:] * 1.0).astype(kind),
            )
        session = make_session(kind)
        experiment = make_experiment(data=labelled(path), model=regression, steps=4, validate_every=4, warp=0.0)
        trainer = build(experiment, session)
        trainer.run()
        losses.append([session.metrics["loss"][step] for step in range(1, 5)] + [session.metrics["valid_loss"][4]])
    assert losses[0] == losses[1]


def test_a_preview_of_another_volume(volume, make_session, make_experiment, tmp_path):
    other = tmp_path / "other.npy"
    np.save(other, np.full((6, 30, 30), 77, np.uint8))
    session = make_session()
    data = labelled(volume, preview=str(other))
    data.check_files()
    build(make_experiment(data=data, model=small(), steps=1, preview_every=1), session).run()
    _, volumes = session.previews[-1]
    assert (volumes["raw"] == 77).all()
    assert "target" not in volumes
    with pytest.raises(ExperimentError, match=r"data\.preview: there is no file .*none\.npy"):
        labelled(volume, preview=str(tmp_path / "none.npy")).check_files()


def test_images_without_labels_are_for_autoencoders(volume, make_session, make_experiment):
    def autoencoder():
        from elektronn_tui.models import AggregateLoss, Conv, Input, Model, SquaredLoss

        raw = Input((1, 1, 3, 15, 15), "b,f,z,y,x", name="raw")
        hidden = Conv(raw, 4, (1, 3, 3), conv_mode="same", name="hidden")
        out = Conv(hidden, 1, (1, 3, 3), conv_mode="same", activation_func="lin", name="out")
        loss = AggregateLoss([SquaredLoss(out, raw)], name="loss")
        return Model(input_node=raw, loss_node=loss, prediction_node=out)

    data = VolumeData(path=str(volume), label_key=None, valid_slices=6)
    assert data.open().train[0].target is None
    trained(make_experiment, make_session, data, autoencoder, warp=1.0)
    pairs = VolumeData(volumes=[(f"{volume}:raw", None)], valid_slices=6)
    pairs.check_files()
    with pytest.raises(ExperimentError, match="it gives no target, but the model has one"):
        trained(make_experiment, make_session, pairs, small(), name="bare")
    assert from_text(VolumeData(path=str(volume)), "label_key", "none") is None


@pytest.mark.parametrize("target_f", [1, 2])
def test_sections_of_a_volume_are_images_with_warp_in_the_plane(
    volume, tmp_path, make_session, make_experiment, target_f
):
    with h5py.File(volume, "r+") as file:
        file["both"] = np.stack([file["classes"][:], 1 - file["classes"][:]])
    key = "classes" if target_f == 1 else "both"
    model = small(shape=(None, 1, 15, 15), target_f=target_f)
    data = labelled(volume, key, mask_key="known", most_ignored=0.5)
    trainer = trained(make_experiment, make_session, data, model, warp=1.0, batch_size=2, preview_every=2)
    assert trainer.batch["raw"].shape == (2, 1, 1, 15, 15)
    assert trainer.batch["target"].shape == (2, target_f, 1, 6, 6)
    assert trainer.session.previews
    # A stack of one section, and validation on another one.
    np.save(tmp_path / "image.npy", np.full((1, 40, 40), 9, np.uint8))
    np.save(tmp_path / "truth.npy", np.eye(40, dtype=np.uint8)[None])
    stack = [(tmp_path / "image.npy", tmp_path / "truth.npy")]
    data = VolumeData(volumes=stack, valid_volumes=stack, target="labels")
    trained(make_experiment, make_session, data, small(shape=(None, 1, 15, 15)), name="stack", warp=1.0)


def test_classes_that_were_not_labelled_reach_the_loss(volume, make_session, make_experiment):
    names = ("mask_class_labeled", "mask_class_not_present")
    pair = (f"{volume}:raw", f"{volume}:classes")
    more = {"labelled": {1: [0]}, "absent": {1: [2]}, "weights": (0, 1)}
    data = VolumeData(volumes=[pair, pair], target="labels", valid_slices=6, **more)
    trainer = trained(make_experiment, make_session, data, small(3, lazy=names))
    assert trainer.batch["mask_class_labeled"].tolist() == [[1, 0, 0]]
    assert trainer.batch["mask_class_not_present"].tolist() == [[0, 0, 1]]
    # Without anything said all classes are labelled.
    trainer = trained(make_experiment, make_session, labelled(volume), small(3, lazy=names), name="all")
    assert trainer.batch["mask_class_labeled"].tolist() == [[1, 1, 1]]
    with pytest.raises(
        ExperimentError,
        match=r"says which classes are absent, but the network can't be told: give its "
        r"loss mask_class_not_present=Input\(\(None, 3\), 'b,f', name='mask_class_not_present'\)",
    ):
        trained(make_experiment, make_session, data, small(3, lazy=names[:1]), name="lacks")
    with pytest.raises(DataError, match=r"absent=\[2\], but there are 2 classes in 1 channels: 0 to 1"):
        trained(make_experiment, make_session, data, small(2, lazy=names), name="two")


def test_lazy_labels_of_a_file(volume):
    def opened(**more):
        (pair,) = labelled(volume, valid_slices=0, **more).open().train
        pair.close()
        return pair

    assert opened(lazy_labels=True).labelled is None
    with h5py.File(volume, "r+") as file:
        file["ll_mask"] = np.array([[1, 0, 1], [0, 0, 1]])
    pair = opened(lazy_labels=True)
    assert (pair.labelled, pair.absent) == ((0, 2), (2,))
    assert opened().absent == ()
    with h5py.File(volume, "r+") as file:
        del file["ll_mask"]
        file["ll_mask"] = np.ones(5)
    with pytest.raises(DataError, match=r"volume\.h5:ll_mask has shape \(5,\); two rows of 0 and 1"):
        opened(lazy_labels=True)


def test_one_class_for_a_whole_patch_or_volume(volume, make_session, make_experiment):
    trainer = trained(make_experiment, make_session, labelled(volume), scalar(), batch_size=2, warp=1.0)
    assert trainer.feed(trainer.batch)["target"].shape == (2, 1)
    raw = f"{volume}:raw"
    data = VolumeData(volumes=[(raw, 0), (raw, 1)], target="labels", valid_slices=6)
    data.check_files()
    trainer = trained(make_experiment, make_session, data, scalar(), name="volumes", batch_size=2)
    assert set(np.unique(trainer.batch["target"])) <= {0, 1}
    with pytest.raises(DataError, match=r"7 for all of .*raw.*: with 2 classes labels are 0 to 1"):
        trained(
            make_experiment,
            make_session,
            VolumeData(volumes=[(raw, 7)], target="labels", valid_slices=6),
            scalar(),
            name="seven",
        )


def test_vectors_are_for_warps_without_perspective(volume, make_session, make_experiment):
    from elektronn_tui.data import Warp

    def model():
        from elektronn_tui.models import AggregateLoss, Conv, Input, Input_like, Model, SquaredLoss

        raw = Input((1, 1, 3, 15, 15), "b,f,z,y,x", name="raw")
        pred = Conv(raw, 3, (1, 3, 3), activation_func="lin", name="pred")
        target = Input_like(pred, name="target")
        loss = AggregateLoss([SquaredLoss(pred, target)], name="loss")
        return Model(input_node=raw, target_node=target, loss_node=loss, prediction_node=pred)

    data = labelled(volume, "field", vectors=[(0, 1, 2)])
    trained(make_experiment, make_session, data, model, warp=1.0)
    with pytest.raises(ExperimentError, match=r"warp_args: the vectors of .* can't follow a perspective"):
        trained(make_experiment, make_session, data, model, name="tilted", warp_args=Warp(perspective=0.1))


def test_neighbours_are_learnt(volume, make_session, make_experiment):
    data = VolumeData(path=str(volume), label_key="classes", target="neighbours", ignore=(0,), valid_slices=6)
    trainer = trained(make_experiment, make_session, data, small(target_f=4), warp=1.0)
    assert set(np.unique(trainer.batch["target"])) == {-1, 1}
    assert trainer.batch["target"].shape[1] == 4
