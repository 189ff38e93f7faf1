from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from elektronn_tui.data import ArraySource, ConcatChannels, CroppedSource, Source
from elektronn_tui.errors import DataError


def ramp(*shape: int) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=np.uint16).reshape(shape)


def test_channels_follow_each_other(tmp_path: Path) -> None:
    one, two = ramp(4, 5, 6), ramp(2, 4, 5, 6) + 1000
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["one"] = one
        file["one"].attrs["resolution"] = (40, 4, 4)
    source = ConcatChannels([f"{tmp_path}/v.h5:one", ArraySource(two, offset=(80, 8, 8))])
    assert isinstance(source, Source)
    assert (source.shape, source.channels, source.dtype) == ((4, 5, 6), 3, np.uint16)
    assert (source.voxel_size, source.offset) == ((40, 4, 4), (80, 8, 8))
    expected = np.concatenate([one[None], two])[:, 1:3, 2:5, 3:6]
    for same in (source, pickle.loads(pickle.dumps(source))):
        np.testing.assert_array_equal(same.read((1, 2, 3), (3, 5, 6)), expected)
    crop = CroppedSource(source, (1, 2, 3), (3, 5, 6))
    assert crop.offset == (120, 16, 20)
    np.testing.assert_array_equal(crop.read((0, 0, 0), crop.shape), expected)
    source.close()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (ArraySource(ramp(4, 5, 7)), r"one shape and dtype: raw has \(4, 5, 6\) of uint16, array has \(4, 5, 7\)"),
        (ArraySource(ramp(4, 5, 6).astype(np.uint8)), "of uint8"),
        (ArraySource(ramp(4, 5, 6), voxel_size=(40, 4, 4)), r"one voxel_size: that of raw is \(30.0, 4.0, 4.0\)"),
    ],
)
def test_volumes_that_do_not_fit(other: ArraySource, message: str) -> None:
    source = ConcatChannels([ArraySource(ramp(4, 5, 6), voxel_size=(30, 4, 4), name="raw"), other])
    with pytest.raises(DataError, match=message):
        source.read((0, 0, 0), (1, 1, 1))


def test_offsets_that_contradict_and_no_volume_at_all() -> None:
    source = ConcatChannels([ArraySource(ramp(2, 2, 2), offset=(0, 0, k)) for k in (0, 8)])
    with pytest.raises(DataError, match="one offset"):
        _ = source.shape
    with pytest.raises(DataError, match="give one at least"):
        ConcatChannels([])
