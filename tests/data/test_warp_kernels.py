"""The compiled loops: whoever runs them, wherever they are installed, whatever memory they are given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.data._compiled import compiled
from elektronn_tui.data.geometry import Geometry
from elektronn_tui.data.sampling import Scratch, sample_labels, sample_raw
from elektronn_tui.data.warp import Warp, place, source_box, translated


class Poisoned(Scratch):
    """Memory full of a value that no volume of these tests holds."""

    def elements(self, count, dtype):
        elements = super().elements(count, dtype)
        elements.view(np.uint8)[:] = 255
        return elements


def draw(seed, shape, extent):
    rng = np.random.default_rng(seed)
    tilt = (None, 3, 40)[seed % 3]
    matrix = Warp(perspective=0.3, lock_z=bool(seed % 2), tilt=tilt, shear=0.2).draw(rng, shape)
    matrix = translated(matrix, place(matrix, Geometry(shape, shape), extent, rng))
    low, high = source_box(matrix, shape, extent)
    return translated(matrix, [-i for i in low]), (slice(None), *map(slice, low, high))


@given(
    seed=st.integers(0, 2**32 - 1), width=st.integers(1, 40), dtype=st.sampled_from([np.uint8, np.uint16, np.float32])
)
@settings(max_examples=120, deadline=None)
def test_nothing_is_read_that_was_not_copied(seed, width, dtype):
    shape, extent = (3, 18, width), (80, 90, 90)
    volume = np.full((1, *extent), 100, dtype)
    matrix, box = draw(seed, shape, extent)
    raw, labels = np.empty((1, *shape), np.float32), np.empty((1, *shape), dtype)
    sample_raw(volume[box], matrix, raw, scratch=Poisoned())
    sample_labels(volume[box], matrix, labels, scratch=Poisoned())
    np.testing.assert_allclose(raw, 100, atol=1e-3)
    assert (labels == 100).all()


def test_views_read_only_arrays_and_foreign_byte_orders_give_what_plain_arrays_give():
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 60000, (2, 72, 75, 80)).astype(np.uint16)
    frozen = volume.copy()
    frozen.flags.writeable = False
    shape = (4, 20, 24)
    matrix, box = draw(2, shape, volume.shape[1:])
    expected_raw, expected_labels = np.empty((2, *shape), np.float32), np.empty((2, *shape), np.int64)
    sample_raw(volume[box].copy(), matrix, expected_raw)
    sample_labels(volume[box].copy(), matrix, expected_labels)
    others = {
        "view": volume[box],
        "read-only": frozen[box],
        "big endian": volume.astype(">u2")[box],
        "fortran": np.asfortranarray(volume)[box],
        "backwards": volume[:, ::-1].copy()[:, ::-1][box],
        "channels last": np.ascontiguousarray(np.moveaxis(volume, 0, -1)).transpose(3, 0, 1, 2)[box],
    }
    for name, other in others.items():
        raw, labels = np.empty_like(expected_raw), np.empty_like(expected_labels)
        sample_raw(other, matrix, raw, scratch=Scratch())
        sample_labels(other, matrix, labels, scratch=Scratch())
        np.testing.assert_array_equal(raw, expected_raw, err_msg=name)
        np.testing.assert_array_equal(labels, expected_labels, err_msg=name)


def test_threads_with_their_own_scratch_do_not_disturb_each_other():
    volume = np.random.default_rng(1).integers(0, 256, (1, 110, 120, 140), dtype=np.uint8)
    shape = (6, 40, 40)

    def example(seed, scratch):
        matrix, box = draw(seed, shape, volume.shape[1:])
        raw, labels = np.empty((1, *shape), np.float32), np.empty((1, *shape), np.uint8)
        sample_raw(volume[box], matrix, raw, scratch=scratch)
        sample_labels(volume[box], matrix, labels, scratch=scratch)
        return raw, labels

    def examples(seeds):
        scratch = Scratch()
        return [example(seed, scratch) for seed in seeds]

    chunks = [range(start, start + 30) for start in range(0, 120, 30)]
    with ThreadPoolExecutor(4) as pool:
        together = [pair for chunk in pool.map(examples, chunks) for pair in chunk]
    for seed, (raw, labels) in enumerate(together):
        alone = example(seed, None)
        np.testing.assert_array_equal(raw, alone[0])
        np.testing.assert_array_equal(labels, alone[1])


def test_loops_compile_where_nothing_can_be_written(monkeypatch):
    # numba finds no place for a cache of code that has no file, as in a read-only installation without a home.
    namespace: dict = {}
    exec(compile("def double(x): return 2 * x", "<nowhere>", "exec"), namespace)
    assert compiled(namespace["double"])(21) == 42


@pytest.mark.parametrize("matrix", [np.full((4, 4), np.nan), np.zeros((4, 4)), np.eye(4) * 1e300])
def test_matrices_without_sense_read_nothing_outside(matrix):
    volume = np.full((1, 5, 6, 7), 100, np.uint8)
    raw, labels = np.empty((1, 4, 5, 33), np.float32), np.empty((1, 4, 5, 33), np.uint8)
    sample_raw(volume, matrix, raw, scratch=Poisoned())
    sample_labels(volume, matrix, labels, scratch=Poisoned())
    assert (labels == 100).all()
    assert (raw == 100).all()
