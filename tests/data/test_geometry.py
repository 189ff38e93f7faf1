from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elektronn_tui.data import Geometry
from elektronn_tui.errors import DataError


@dataclass
class Shape:
    spatial_shape: tuple[int, ...]
    offsets: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()


def test_the_reference_network() -> None:
    geometry = Geometry.from_shapes(Shape((23, 185, 185)), Shape((5, 21, 21), (7, 52, 52), (2, 4, 4)))
    assert geometry == Geometry((23, 185, 185), (5, 21, 21), (7, 52, 52), (2, 4, 4))
    assert geometry.span == (9, 81, 81)
    dense = Geometry((23, 185, 185), (9, 81, 81), (7, 52, 52))
    assert dense.target_slices((10, 20, 30)) == (slice(17, 26, 1), slice(72, 153, 1), slice(82, 163, 1))


def test_two_axes_get_a_z_extent_of_one() -> None:
    geometry = Geometry.from_shapes(Shape((65, 67)), Shape((28, 29), (5, 5), (2, 2)))
    assert geometry == Geometry((1, 65, 67), (1, 28, 29), (0, 5, 5), (1, 2, 2))


@given(
    axes=st.tuples(*[st.tuples(st.integers(1, 40), st.integers(0, 30), st.integers(1, 5))] * 3),
    wrong=st.integers(-9, 9),
    axis=st.integers(0, 2),
)
def test_what_fits_is_accepted_and_nothing_else(axes: tuple, wrong: int, axis: int) -> None:
    target, offsets, strides = zip(*axes, strict=True)
    patch = [2 * o + s * (t - 1) + 1 for t, o, s in axes]
    assert Geometry(tuple(patch), target, offsets, strides).patch_shape == tuple(patch)
    patch[axis] += wrong
    if wrong and patch[axis] > 0:
        with pytest.raises(DataError, match=f"axis {'zyx'[axis]}: the patch is {patch[axis]}, but a target of"):
            Geometry(tuple(patch), target, offsets, strides)


def test_messages_say_what_would_fit() -> None:
    with pytest.raises(
        DataError,
        match=r"target of 21 with offset 52 and stride 4 needs a patch of 185; a patch of 193 holds a target of 23",
    ):
        Geometry((23, 195, 185), (5, 21, 21), (7, 52, 52), (2, 4, 4))
    with pytest.raises(DataError, match="field of view is even"):
        Geometry((20, 20, 20), (15, 15, 15), (3, 3, 3))
    with pytest.raises(DataError, match=r"strides=\(0, 1, 1\); three integers \(z, y, x\) ≥ 1"):
        Geometry((1, 1, 1), (1, 1, 1), strides=(0, 1, 1))
    with pytest.raises(DataError, match=r"both need two \(y, x\) or three"):
        Geometry.from_shapes(Shape((5, 5)), Shape((5, 5, 5)))
