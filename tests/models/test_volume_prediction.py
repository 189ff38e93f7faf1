"""Prediction block by block: the bytes of the whole, whatever happens on the way."""

from __future__ import annotations

import json
import logging
import math
import resource
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from elektronn_tui.data import ArraySource, open_source
from elektronn_tui.data.prediction_reading import channel_names
from elektronn_tui.data.spool import BlockProgress, Spool
from elektronn_tui.errors import DataError, ModelError, ShapeError
from elektronn_tui.models import AutoMerge, Conv, Input, Model, Pool, Softmax
from elektronn_tui.models.volume_prediction import predict_volume


def strided() -> Model:
    raw = Input((1, 1, 6, 24, 24), "b,f,z,y,x", name="raw")
    out = Conv(Conv(raw, 3, (1, 3, 3), (1, 2, 2)), 3, (2, 2, 2), (1, 2, 2))
    return Model(raw, prediction_node=Softmax(Conv(out, 2, (1, 1, 1), activation_func="lin")))


def unet() -> Model:
    raw = Input((1, 1, 8, 20, 20), "b,f,z,y,x", name="raw")
    fine = Conv(raw, 3, (3, 3, 3))
    coarse = Conv(Pool(fine, (1, 2, 2)), 4, (1, 2, 2))
    out = Conv(AutoMerge(fine, coarse, upconv_n_f=3), 2, (1, 3, 3), activation_func="lin")
    return Model(raw, prediction_node=Softmax(out))


def flat() -> Model:
    raw = Input((1, 1, 18, 18), "b,f,y,x", name="raw")
    out = Conv(Conv(raw, 3, (3, 3), (2, 2)), 2, (2, 2), activation_func="lin")
    return Model(raw, prediction_node=Softmax(out))


def padding() -> Model:
    raw = Input((1, 1, 6, 12, 12), "b,f,z,y,x", name="raw")
    return Model(raw, prediction_node=Conv(Conv(raw, 3, (3, 3, 3), conv_mode="same"), 2, (1, 1, 1)))


NETWORKS = {"strided": strided, "unet": unet, "flat": flat, "padding": padding}


SMALL = {"memory": 100_000, "block_bytes": 60_000}
"""Options by which volumes have several blocks, of several tiles."""


def volume(*shape: int, channels: int = 1) -> ArraySource:
    values = np.random.default_rng(0).integers(0, 256, (channels, *shape), np.uint8)
    return ArraySource(values, voxel_size=(40, 4, 4), offset=(400, 0, 8), name="volume")


def dataset(path: Path, key: str = "prediction") -> np.ndarray:
    with h5py.File(path) as file:
        assert file[key].attrs["complete"]
        return file[key][()]


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("engine", ["auto", "mfp", "shifts"])
@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_are_those_of_the_whole(tmp_path: Path, name: str, engine: str, pad: bool) -> None:
    torch.manual_seed(0)
    model, source = NETWORKS[name](), volume(*{"flat": (4, 41, 38), "strided": (9, 34, 31)}.get(name, (15, 41, 38)))
    steps: list[BlockProgress] = []
    options = {"pad_raw": pad, "engine": engine, "block_bytes": 30_000}
    options["memory"] = {"unet": 80_000, "padding": 10_000_000, "flat": 30_000}.get(name, 60_000)
    path = predict_volume(model, source, tmp_path / "out.h5", progress=steps.append, **options)
    whole = model.predict_dense(source.read((0, 0, 0), source.shape), pad_raw=pad)
    predicted = dataset(path)
    np.testing.assert_allclose(predicted, whole, atol=2e-6)
    shares = [step.share for step in steps]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert (steps[-1].blocks > 2) == (name != "padding")
    assert steps[-1].voxels == math.prod(whole.shape[1:])
    assert [p.name for p in tmp_path.iterdir()] == ["out.h5"]


def test_the_output_lies_on_its_raw_volume(tmp_path: Path) -> None:
    model = strided()
    model.extra["step"] = "12"
    out = model.predict_dense(volume(10, 30, 30), tmp_path / "out.h5:probs/membranes", as_uint8=True)
    source = open_source(f"{out}:probs/membranes")
    offsets = model.prediction_node.shape.offsets
    assert (source.channels, source.dtype, source.voxel_size) == (2, np.uint8, (40, 4, 4))
    assert source.offset == (400 + 40 * offsets[0], 4 * offsets[1], 8 + 4 * offsets[2])
    with h5py.File(out) as file:
        assert file["probs/membranes"].attrs["model_step"] == "12"
    padded = predict_volume(model, volume(10, 30, 30), tmp_path / "padded.h5", pad_raw=True)
    assert open_source(padded).offset == (400, 0, 8)


KILLED = """
import sys
from pathlib import Path
from elektronn_tui.data import open_source
from elektronn_tui.models import load_model
from elektronn_tui.models.volume_prediction import predict_volume

told = []

def tell(now):
    if told[-1:] != [now.done]:
        told.append(now.done)
        print(now.done, flush=True)
        sys.stdin.readline()  # which the test writes, or kills

folder = Path(sys.argv[1])
model = load_model(folder / "model.safetensors")
raw = open_source(folder / "raw.npy")
predict_volume(model, raw, folder / "out.h5", memory=100_000, block_bytes=60_000, resume=True, progress=tell)
"""


def test_a_prediction_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path: Path) -> None:
    model = unet()
    model.save(tmp_path / "model.safetensors")
    raw = volume(15, 41, 38)
    np.save(tmp_path / "raw.npy", raw.read((0, 0, 0), raw.shape)[0])
    whole = dataset(predict_volume(model, open_source(tmp_path / "raw.npy"), tmp_path / "whole.h5", **SMALL))
    begun = []
    for blocks in (1, 3, None):
        command = [sys.executable, "-c", KILLED, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for told, line in enumerate(process.stdout):
                if not told:
                    begun.append(int(line))
                if told == blocks:
                    process.send_signal(signal.SIGKILL)
                    break
                process.stdin.write("\n")
                process.stdin.flush()
    assert begun == sorted(begun)
    assert begun[-1] >= 2
    np.testing.assert_array_equal(dataset(tmp_path / "out.h5"), whole)
    assert not (tmp_path / "out.h5.part").exists()


def test_what_was_begun_is_gone_on_with_only_when_asked_and_the_same(tmp_path: Path) -> None:
    model, source = strided(), volume(10, 41, 38)

    def stop(now: BlockProgress) -> None:
        if now.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_volume(model, source, tmp_path / "out.h5", **SMALL, progress=stop)
    assert not (tmp_path / "out.h5").exists()
    with pytest.raises(DataError, match="was begun by another run; --resume goes on"):
        predict_volume(model, source, tmp_path / "out.h5", **SMALL)
    with pytest.raises(DataError, match="begun for something else: as_uint8 was False, is True"):
        predict_volume(model, source, tmp_path / "out.h5", **SMALL, resume=True, as_uint8=True)
    with torch.no_grad():
        model["conv"].w.add_(0.1)
    with pytest.raises(DataError, match="begun for something else: model was"):
        predict_volume(model, source, tmp_path / "out.h5", **SMALL, resume=True)
    path = predict_volume(model, source, tmp_path / "out.h5", **SMALL, force=True)
    np.testing.assert_allclose(dataset(path), model.predict_dense(source.read((0, 0, 0), source.shape)), atol=2e-6)


def test_two_processes_do_not_write_the_same_output(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "out.h5.part", {})
    with pytest.raises(DataError, match="another process is writing there now"):
        Spool(tmp_path / "out.h5.part", {}, resume=True)
    spool.close()
    Spool(tmp_path / "out.h5.part", {}, resume=True).close()


def test_a_full_disk_leaves_what_is_done(tmp_path: Path) -> None:
    model, source = strided(), volume(10, 41, 38)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(now: BlockProgress) -> None:
        if now.done == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    try:
        with pytest.raises(DataError, match=r"out\.h5\.part/\d+\.npy can't be written: .*; what is done is kept"):
            predict_volume(model, source, tmp_path / "out.h5", **SMALL, progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    begun: list[int] = []
    path = predict_volume(
        model,
        source,
        tmp_path / "out.h5",
        memory=100_000,
        block_bytes=60_000,
        resume=True,
        progress=lambda now: begun.append(now.done),
    )
    assert begun[0] >= 1
    np.testing.assert_allclose(dataset(path), model.predict_dense(source.read((0, 0, 0), source.shape)), atol=2e-6)


def test_bad_input(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = strided()
    with pytest.raises(ShapeError, match=r"volume has 3 channels, but the input of 'model' takes 1"):
        predict_volume(model, volume(10, 30, 30, channels=3), tmp_path / "out.h5")
    with pytest.raises(ShapeError, match=r"size 7 on axis y, which is smaller than the field of view; it must be \d+"):
        predict_volume(model, volume(10, 7, 30), tmp_path / "out.h5")
    with pytest.raises(DataError, match="an output is an HDF5 file"):
        predict_volume(model, volume(10, 30, 30), tmp_path / "out.tif")
    with pytest.raises(DataError, match="there is no folder"):
        predict_volume(model, volume(10, 30, 30), tmp_path / "none" / "out.h5")
    (tmp_path / "out.h5").write_bytes(b"")
    with pytest.raises(DataError, match="exists already"):
        predict_volume(model, volume(10, 30, 30), tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]
    for out in (None, True, 3):
        with pytest.raises(ModelError, match="a volume needs a file for its prediction"):
            model.predict_dense(volume(10, 30, 30), out)
    with torch.no_grad():
        model["conv1"].w.fill_(torch.nan)
    for as_uint8 in (False, True):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            predict_volume(model, volume(10, 30, 30), tmp_path / "out.h5", as_uint8=as_uint8, force=True)
        assert "values are NaN or infinite" in caplog.text
    assert not dataset(tmp_path / "out.h5").any()


def test_zarr_holds_what_hdf5_holds(tmp_path: Path) -> None:
    model, source = strided(), volume(10, 41, 38)
    expected = dataset(predict_volume(model, source, tmp_path / "out.h5", as_uint8=True, **SMALL))
    path = predict_volume(model, source, tmp_path / "out.zarr", as_uint8=True, **SMALL)
    store = open_source(path)
    assert (store.channels, store.dtype, store.voxel_size) == (2, np.uint8, (40, 4, 4))
    assert store.offset == open_source(tmp_path / "out.h5").offset
    np.testing.assert_array_equal(store.read((0, 0, 0), store.shape), expected)
    attributes = json.loads((path / ".zattrs").read_text())
    assert attributes["complete"] is True
    assert attributes["engine"] == "dilated"
    keyed = predict_volume(model, source, f"{tmp_path}/out.zarr:deep/probs", as_uint8=True, force=True, **SMALL)
    assert keyed == path
    again = open_source(f"{path}/deep/probs")
    np.testing.assert_array_equal(again.read((0, 0, 0), again.shape), expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.h5", "out.zarr"]
    with pytest.raises(DataError, match=r"out\.zarr exists already"):
        predict_volume(model, source, path)


def test_a_full_disk_stops_the_writing_of_zarr_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorstore

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device\n  more")

    monkeypatch.setattr(tensorstore, "open", refuse)
    with pytest.raises(DataError, match=r"out\.zarr can't be written: RESOURCE_EXHAUSTED: No space left on device"):
        predict_volume(strided(), volume(10, 41, 38), tmp_path / "out.zarr", **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr.part"]


def test_blocks_of_blended_tiles_are_those_of_the_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, source = padding(), volume(20, 41, 38)
    steps: list[BlockProgress] = []
    options = {"memory": 100_000, "block_bytes": 60_000, "progress": steps.append}
    path = predict_volume(model, source, tmp_path / "out.h5", **options)
    assert steps[-1].blocks > 5
    whole = model.predict_dense(source.read((0, 0, 0), source.shape), memory=100_000)
    assert dataset(path).tobytes() == whole.tobytes()
    with h5py.File(path) as file:
        assert dict(file["prediction"].attrs)["blend"] == "gaussian"


def test_what_is_resumed_keeps_its_patch_and_blocks_however_much_memory_there_is(tmp_path: Path) -> None:
    model, source = strided(), volume(10, 41, 38)

    def stop(now: BlockProgress) -> None:
        if now.done == 3:
            raise KeyboardInterrupt

    expected = dataset(predict_volume(model, source, tmp_path / "whole.h5", memory=100_000, block_bytes=60_000))
    with pytest.raises(KeyboardInterrupt):
        predict_volume(model, source, tmp_path / "out.h5", memory=100_000, block_bytes=60_000, progress=stop)
    path = predict_volume(model, source, tmp_path / "out.h5", memory=2**40, resume=True)
    assert dataset(path).tobytes() == expected.tobytes()


def test_a_state_that_was_spoilt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.h5.part").mkdir()
    (tmp_path / "out.h5.part" / "state.json").write_text('{"block": "large"}')
    with pytest.raises(DataError, match="block is 'large', which are no sizes; --force begins anew"):
        predict_volume(strided(), volume(10, 30, 30), tmp_path / "out.h5", resume=True)


def test_channels_are_called_what_the_network_calls_its_features(tmp_path: Path) -> None:
    model = strided()
    model.prediction_node.feature_names = ("inside", "boundary")
    path = predict_volume(model, volume(10, 30, 30), tmp_path / "out.h5")
    assert channel_names(path) == ("inside", "boundary")
    assert channel_names(predict_volume(strided(), volume(10, 30, 30), tmp_path / "other.h5")) == ()


@pytest.mark.parametrize("name", ["out.h5", "out.zarr"])
def test_what_a_kill_has_left_of_an_output_is_written_over(tmp_path: Path, name: str) -> None:
    for left in (f".{name}.writing", f".{name}.old"):
        if name.endswith("zarr"):
            (tmp_path / left / "0").mkdir(parents=True)
        else:
            (tmp_path / left).write_bytes(b"half")
    predict_volume(strided(), volume(10, 30, 30), tmp_path / name)
    predict_volume(strided(), volume(10, 30, 30), tmp_path / name, force=True)
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".old") == [name]
    assert open_source(tmp_path / name).channels == 2


@pytest.mark.parametrize(("factor", "odd"), [(1, False), (1.5, False), (257, True), (1 / 255, True)])
def test_raw_values_of_another_scale_are_noticed(
    tmp_path: Path, factor: float, odd: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = strided()
    model.scaling = {"mean": [127.5], "std": [73.6]}
    values = volume(10, 30, 30).read((0, 0, 0), (10, 30, 30)) * np.float32(factor)
    predict_volume(model, ArraySource(values, name="raw"), tmp_path / "out.h5")
    assert ("but the network was trained on 127.5 ± 74" in caplog.text) == odd
