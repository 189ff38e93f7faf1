import h5py
import numpy as np
import pytest

from elektronn_tui.data import write_knossos
from elektronn_tui.errors import DataError, ExperimentError
from elektronn_tui.training.experiment import DemoData, VolumeData, load_experiment
from elektronn_tui.training.runner import build


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume.h5"
    generator = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["raw"] = generator.integers(0, 255, (20, 40, 40), np.uint8)
        file["raw"].attrs["resolution"] = (40.0, 4.0, 4.0)
        file["ids"] = np.repeat(np.arange(1, 11, dtype=np.uint64), 4)[None, None].repeat(20, 0).repeat(40, 1)
        file["classes"] = generator.integers(0, 2, (20, 40, 40), np.uint8)
        file["classes"][:, :, :10] = 7
    return path


def test_a_store_of_chunks_is_one_file_with_two_datasets_too(tmp_path):
    tensorstore = pytest.importorskip("tensorstore")
    raw = np.random.default_rng(0).integers(0, 255, (20, 40, 40), np.uint8)
    for key, stored in (("raw", raw), ("labels", raw.astype(np.uint64) // 64)):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/volume.zarr/{key}/"}}
        tensorstore.open(spec, create=True, dtype=stored.dtype, shape=stored.shape).result().write(stored).result()
    data = VolumeData(path=str(tmp_path / "volume.zarr"), valid_slices=6, voxel_size=(40, 4, 4))
    data.check_files()
    opened = data.open()
    assert opened.train[0].region == ((0, 0, 0), (14, 40, 40))
    np.testing.assert_array_equal(opened.train[0].raw.read((0, 0, 0), (20, 40, 40))[0], raw)
    with pytest.raises(ExperimentError, match=r"no folder .*volume\.zarr/ids"):
        VolumeData(path=str(tmp_path / "volume.zarr"), label_key="ids").check_files()
    VolumeData(volumes=[("https://host/x.zarr", "gs://bucket/labels")]).check_files()


def test_stacks_folders_and_archives_are_volumes_too(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    raw = np.random.default_rng(0).integers(0, 255, (20, 40, 40), np.uint8)
    tifffile.imwrite(tmp_path / "raw.tif", raw, compression="zlib", photometric="minisblack")
    (tmp_path / "ids").mkdir()
    for z in range(20):
        tifffile.imwrite(tmp_path / "ids" / f"{z}.tif", raw[z] // 64)
    np.savez_compressed(tmp_path / "both.npz", raw=raw, labels=raw // 64)
    pairs = [(f"{tmp_path}/raw.tif", f"{tmp_path}/ids"), (f"{tmp_path}/both.npz:raw", f"{tmp_path}/ids/*.tif")]
    for data in (VolumeData(volumes=pairs, valid_slices=6), VolumeData(path=f"{tmp_path}/both.npz", valid_slices=6)):
        data.check_files()
        for pair in data.open().train:
            np.testing.assert_array_equal(pair.raw.read((0, 0, 0), (20, 40, 40))[0], raw)
            assert set(np.unique(pair.target.read((0, 0, 0), (20, 40, 40)))) == {0, 1}
    for missing in ("no.tif", "no.npz:raw", "nowhere/*.png"):
        with pytest.raises(ExperimentError, match=r"data\.volumes: there is no (file|folder) .*no"):
            VolumeData(volumes=[(f"{tmp_path}/{missing}", f"{tmp_path}/ids")]).check_files()


def test_any_volume_can_be_the_raw_image_and_labels_lie_elsewhere(tmp_path, volume):
    pytest.importorskip("cramjam")
    tifffile = pytest.importorskip("tifffile")
    raw = np.random.default_rng(0).integers(0, 255, (20, 40, 40), np.uint8)
    ids = raw.astype(np.uint64) // 64 + 1
    em = write_knossos(raw, tmp_path / "em", experiment="em", mags=(1, 2), cube_shape=(16, 16, 16))
    write_knossos(ids, tmp_path / "seg", experiment="seg", cube_shape=(16, 16, 16), format="seg.sz.zip")
    (tmp_path / "sections").mkdir()
    for z in range(20):
        tifffile.imwrite(tmp_path / "sections" / f"{z}.tif", raw[z])
    of_knossos = f"knossos://{tmp_path}/seg"
    for path, raw_key, label_key in (
        (em, "mag1", of_knossos),
        (tmp_path / "em", None, of_knossos),
        (f"knossos://{tmp_path}/em", None, f"{volume}:ids"),
        (tmp_path / "sections", None, f"{volume}:ids"),
    ):
        data = VolumeData(path=str(path), raw_key=raw_key, label_key=label_key, valid_slices=4)
        data.check_files()
        (pair,) = data.open().train
        np.testing.assert_array_equal(pair.raw.read((0, 0, 0), (20, 40, 40))[0], raw)
        assert pair.target is not None
    with pytest.raises(ExperimentError, match=r"data\.label_key: .* 'ids' is the address of no volume"):
        VolumeData(path=str(tmp_path / "em"), raw_key=None, label_key="ids")
    with pytest.raises(DataError, match="axes can't be said of it"):
        VolumeData(path=str(tmp_path / "em"), raw_key=None, label_key=None, axes="xyz").open()
    with pytest.raises(ExperimentError, match=r"data\.path: there is no file .*nothing\.tif"):
        VolumeData(path=str(tmp_path / "nothing.tif"), raw_key=None, label_key=None).check_files()


def test_one_file_with_two_datasets(volume):
    opened = VolumeData(path=str(volume), label_key="ids", valid_slices=6).open()
    (train,), (valid,) = opened.train, opened.valid
    assert train.region == ((0, 0, 0), (14, 40, 40))
    assert valid.region == ((14, 0, 0), (20, 40, 40))
    assert set(np.unique(train.target.read((0, 0, 0), (20, 40, 40)))) == {0, 1}
    assert train.raw.voxel_size == (40.0, 4.0, 4.0)


def test_several_volumes_and_volumes_to_validate_on(volume):
    pair = (f"{volume}:raw", f"{volume}:classes")
    opened = VolumeData(volumes=[pair, pair], valid_volumes=[pair], target="labels").open()
    assert (len(opened.train), len(opened.valid)) == (2, 1)
    assert opened.train[0].region == ((0, 0, 0), (20, 40, 40))


def test_axis_of_the_sections_that_are_held_out(volume):
    opened = VolumeData(path=str(volume), label_key="ids", valid_slices=10, valid_axis="x").open()
    assert opened.valid[0].region == ((0, 0, 30), (20, 40, 40))
    assert not VolumeData(path=str(volume), label_key="ids", valid_slices=0).open().valid


def test_label_values_to_ignore_do_not_count(volume, make_session, make_experiment):
    def labels(**more):
        return VolumeData(path=str(volume), label_key="classes", target="labels", valid_slices=6, **more)

    session = make_session("ignored")
    trainer = build(make_experiment(data=labels(ignore=[7]), steps=3, validate_every=3, warp=1.0), session)
    trainer.run()
    assert np.isfinite(session.metrics["valid_loss"][3])
    with pytest.raises(DataError, match="7"):
        build(make_experiment(data=labels()), make_session("refused")).run()


def test_what_contradicts_itself_or_is_not_there(volume):
    with pytest.raises(ExperimentError, match="use background='ignore'"):
        VolumeData(path=str(volume), ignore=[0])
    with pytest.raises(DataError, match=r"has no dataset 'id'.*Did you mean 'ids'"):
        VolumeData(path=str(volume), label_key="id").open()
    with pytest.raises(DataError, match=r"data\.valid_slices: .*can't hold out 99 of 20 voxels along z"):
        VolumeData(path=str(volume), label_key="ids", valid_slices=99).open()


def test_the_voxel_size_can_be_given(volume):
    opened = VolumeData(path=str(volume), label_key="ids", voxel_size=(30, 5, 5)).open
    with pytest.raises(DataError):
        opened()  # 30 sections of 20 are held out by default
    opened = VolumeData(path=str(volume), label_key="ids", voxel_size=(30, 5, 5), valid_slices=5).open()
    assert opened.train[0].raw.voxel_size == (30.0, 5.0, 5.0)


@pytest.mark.parametrize("anisotropic", [False, True])
def test_the_demo_volume(anisotropic):
    opened = DemoData(shape=(24, 64, 64), anisotropic=anisotropic, valid_slices=8).open()
    raw = opened.train[0].raw
    assert raw.shape == (24, 64, 64)
    assert (raw.voxel_size[0] > raw.voxel_size[1]) is anisotropic
    boundaries = opened.train[0].target.read((0, 0, 0), (24, 64, 64))
    assert 0.02 < boundaries.mean() < 0.5


def test_files_with_other_axes(tmp_path, volume):
    with h5py.File(volume) as stored:
        arrays = {name: stored[name][()] for name in ("raw", "ids")}
    turned = tmp_path / "turned.h5"
    with h5py.File(turned, "w") as file:
        for name, array in arrays.items():
            file[name] = array.transpose(2, 1, 0)
    (pair,) = VolumeData(path=str(turned), label_key="ids", valid_slices=0, axes="xyz").open().train
    assert pair.raw.shape == (20, 40, 40)
    np.testing.assert_array_equal(pair.raw.read((0, 0, 0), (20, 40, 40))[0], arrays["raw"])
    with pytest.raises(DataError, match="axes"):
        VolumeData(path=str(turned), label_key="ids", axes="xyq").open()


def test_the_demo_volume_stands_in_until_a_file_is_given(volume):
    data = VolumeData(demo_shape=(24, 48, 48), valid_slices=6, label_key="ids")
    data.check_files()
    assert data.open().train[0].raw.shape == (24, 48, 48)
    given = VolumeData(demo_shape=(24, 48, 48), valid_slices=6, label_key="ids", path=str(volume))
    assert given.open().train[0].raw.shape == (20, 40, 40)
    with pytest.raises(ExperimentError, match="no volume is given"):
        VolumeData().check_files()
    with pytest.raises(ExperimentError, match="valid_volumes are given, but no path"):
        VolumeData(demo_shape=(24, 48, 48), valid_volumes=[("a.h5:raw", "a.h5:labels")])


def test_affinities_of_a_file_and_of_the_demo_volume(volume):
    from elektronn_tui.data import affinities

    offsets = ((-1, 0, 0), (0, 0, -6))
    settings = {"target": "affinities", "offsets": offsets, "valid_slices": 6, "with_ids": True}
    (pair,) = VolumeData(path=str(volume), label_key="ids", background="ignore", **settings).open().train
    with h5py.File(volume) as file:
        ids = file["ids"][()]
    found = pair.target.read((0, 0, 0), (20, 40, 40))
    np.testing.assert_array_equal(found[:2], affinities(ids, offsets))
    np.testing.assert_array_equal(found[2], ids)
    (pair,) = DemoData(shape=(24, 48, 48), **settings).open().train
    assert pair.target.channels == 3
    assert set(np.unique(pair.target.read((0, 0, 0), (24, 48, 48))[:2])) == {-1, 0, 1}


@pytest.mark.parametrize("offsets", [[], [(0, 0, 0)], [(1, 2)], [(0.5, 0, 0)], "z", 3])
def test_offsets_that_make_no_sense(offsets):
    with pytest.raises(ExperimentError, match=r"data\.offsets: .* is not allowed; it must be a list of \(z, y, x\)"):
        DemoData(offsets=offsets)


@pytest.mark.parametrize("kind", [DemoData, VolumeData])
def test_edges_are_refused_where_none_are_learnt(kind):
    with pytest.raises(
        ExperimentError,
        match=r"data\.offsets: it is for target='affinities' or target='neighbours', not for 'boundaries'",
    ):
        kind(offsets=[(0, 0, -5)])
    with pytest.raises(ExperimentError, match=r"data\.with_ids: it is for target='affinities', not for 'labels'"):
        kind(target="labels", with_ids=True)


def test_classes_of_the_demo_volume_are_learnt_by_several_heads():
    from elektronn_tui.data import TISSUE_CLASSES, demo_volume

    opened = DemoData(shape=(24, 96, 96), target="labels", valid_slices=4).open()
    target = opened.train[0].target
    classes = target.read((0, 0, 0), (24, 96, 96))
    assert target.channels == len(TISSUE_CLASSES)
    for channel, names in zip(classes, TISSUE_CLASSES.values(), strict=True):
        assert np.unique(channel).max() < len(names)
    boundaries = DemoData(shape=(24, 96, 96), valid_slices=4).open().train[0].target.read((0, 0, 0), (24, 96, 96))[0]
    np.testing.assert_array_equal(classes[0] == 1, boundaries == 1)
    assert 0.05 < (classes[0] == 2).mean() < 0.5
    assert {0, 1} <= set(np.unique(classes[1]))
    ids = demo_volume((24, 96, 96), seed=1).ids
    cells, sizes = np.unique(ids, return_counts=True)
    calibres = [np.unique(classes[2][ids == cell]).tolist() for cell in cells[np.argsort(sizes)]]
    assert [len(of_cell) for of_cell in calibres] == [1] * len(cells)
    assert calibres == sorted(calibres)


def test_a_target_of_several_channels_has_to_fit_the_network(make_session, make_experiment):
    with pytest.raises(ExperimentError, match=r"target .* takes 1 features, but .* has 3; override_f=3 would fit"):
        build(make_experiment(data=DemoData(shape=(16, 48, 48), target="affinities", valid_slices=4)), make_session())


REGRESSION = """
from elektronn_tui import DemoData, Experiment
from elektronn_tui.models import AggregateLoss, Conv, Input, Input_like, Model, SquaredLoss


def create_model():
    raw = Input((1, 1, 5, 15, 15), "b,f,z,y,x", name="raw")
    pred = Conv(Conv(raw, 4, (3, 3, 3)), {channels}, (1, 3, 3), activation_func="lin", name="pred")
    target = Input_like(pred, dtype="float32", name="target")
    loss = AggregateLoss([SquaredLoss(pred, target, name="squared")], name="loss")
    return Model(input_node=raw, target_node=target, loss_node=loss, prediction_node=pred, prediction_ext=[loss, pred])


experiment = Experiment(
    model=create_model, data=DemoData(shape=(24, 48, 48), valid_slices=8, {data}), steps=4, validate_every=2, warp=1.0
)
"""


@pytest.mark.parametrize(
    ("target", "options", "channels"),
    [
        ("soft_boundaries", "", 1),
        ("distances", "", 1),
        ("distances", "distance='vector', distance_scale=20", 3),
        ("shapes", "shape_sigma=20", 10),
    ],
)
def test_regressions_of_segment_ids_are_trained_and_validated(tmp_path, make_session, target, options, channels):
    path = tmp_path / "regression.py"
    path.write_text(REGRESSION.replace("{channels}", str(channels)).replace("{data}", f"target='{target}', {options}"))
    session = make_session(f"{target}-{channels}")
    trainer = build(load_experiment(path), session)
    trainer.run()
    assert trainer.batch["target"].shape[1] == channels
    for name in ("loss", "valid_loss"):
        assert np.isfinite(session.metrics[name][4])


def test_settings_of_other_targets_are_refused(volume):
    for options, of in (
        ({"offsets": [(0, 0, 3)]}, "affinities"),
        ({"with_ids": True}, "affinities"),
        ({"distance": "vector"}, "distances"),
        ({"distance_scale": 3.0}, "distances"),
        ({"shape_sigma": 3.0}, "shapes"),
    ):
        for data in (DemoData, VolumeData):
            with pytest.raises(ExperimentError, match=rf"data\.{next(iter(options))}: .*target='{of}'"):
                data(**options)
    (pair,) = (
        VolumeData(path=str(volume), label_key="ids", target="distances", background="ignore", valid_slices=0)
        .open()
        .train
    )
    assert (pair.target.channels, pair.target.dtype) == (1, np.float32)


def test_what_a_mask_leaves_out_of_a_float_target_counts_for_no_loss():
    import torch

    from elektronn_tui.models import AggregateLoss, Conv, Input, Input_like, Model, SquaredLoss
    from elektronn_tui.training.batches import Feeder

    raw = Input((1, 1, 1, 4, 4), "b,f,z,y,x", name="raw")
    pred = Conv(raw, 1, (1, 1, 1), activation_func="lin", name="pred")
    target = Input_like(pred, dtype="float32", name="target")
    loss = AggregateLoss([SquaredLoss(pred, target)], name="loss")
    model = Model(input_node=raw, target_node=target, loss_node=loss, prediction_node=pred, prediction_ext=[loss, pred])
    mask = np.zeros((1, 1, 1, 4, 4), bool)
    mask[..., 0] = True
    wild = np.where(mask, 0.25, 1e6).astype(np.float32)
    batch = {"raw": np.ones((1, 1, 1, 4, 4), np.float32), "target": wild, "mask": mask}
    fed = Feeder(model, torch.device("cpu"))(batch)["target"]
    np.testing.assert_array_equal(np.isnan(fed.numpy()), ~mask)
    assert batch["target"] is wild
    assert not np.isnan(wild).any()
