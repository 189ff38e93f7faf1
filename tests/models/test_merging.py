"""Joining nodes: sums, products, faithless merges, and the merge of two resolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    Add,
    Concat,
    Conv,
    Crop,
    FaithlessMerge,
    Input,
    MultMerge,
    Node,
    Pool,
    TaggedShape,
    UpConv,
    UpConvMerge,
)


def vectors(*n_f: int, batch: int | None = 2) -> list[Node]:
    return [Input((batch, n), "b,f", name=f"raw{i}") for i, n in enumerate(n_f)]


def test_sums_and_products_of_several() -> None:
    nodes = vectors(3, 3, 3)
    a, b, c = np.random.default_rng(0).normal(size=(3, 2, 3))
    assert Add(nodes)(a, b, c) == pytest.approx(a + b + c, abs=1e-6)
    assert Add(*nodes[:2])(a, b) == pytest.approx(a + b, abs=1e-6)
    assert MultMerge(nodes)(a, b, c) == pytest.approx(a * b * c, abs=1e-6)
    assert MultMerge(nodes[:2], nodes[2])(a, b, c) == pytest.approx(a * b * c, abs=1e-6)
    assert MultMerge(*nodes[:2]).computational_cost == 6


def test_an_unknown_size_is_taken_from_the_other() -> None:
    (free,), (fixed,) = vectors(3, batch=None), vectors(3)
    assert Add(free, fixed).shape.shape == (2, 3)


@pytest.mark.parametrize("kind", [Add, MultMerge])
def test_unlike_parents_are_refused(kind: type[Add]) -> None:
    with pytest.raises(ShapeError, match="differ on axis f: 3 and 4"):
        kind(*vectors(3, 4))
    with pytest.raises(ModelError, match="two nodes or more"):
        kind(vectors(3))
    raw = Input((1, 2, 8), "b,f,x", name="raw")
    with pytest.raises(ShapeError, match="strides"):
        kind(Pool(raw, (2,)), Input((1, 2, 4), "b,f,x"))


def test_unlike_fragments_are_refused() -> None:
    fragments = TaggedShape((2, 2, 8), "b,f,x", (2,), [[0], [1]])
    a, b = (Input((2, 2, 8), "b,f,x", (2,), name=name) for name in "ab")
    a.shape = fragments
    for merge in (lambda: Add(a, b), lambda: Concat([a, b])):
        with pytest.raises(ShapeError, match="unlike fragments on the batch axis"):
            merge()
    b.shape = fragments
    assert np.array_equal(Add(a, b).shape.mfp_offsets, [[0], [1]])


def test_concat_names_the_missing_axis() -> None:
    with pytest.raises(ShapeError, match=r"Concat 'concat'.*no axis 'z' in 'raw0'"):
        Concat(vectors(3, 3), axis="z")


@pytest.mark.parametrize(("ratio", "hard", "easy"), [(1.0, 0.5, 0.0), (0.0, 0.0, 0.5), (0.8, 0.4, 0.1)])
def test_faithless_merge_fails_as_often_as_it_says(ratio: float, hard: float, easy: float) -> None:
    node = FaithlessMerge(*vectors(1, 1, batch=1), failing_prob=0.5, hardeasy_ratio=ratio)
    torch.manual_seed(0)
    ones = torch.ones(1, 1)
    drawn = torch.cat([node.operation(ones, ones) for _ in range(2000)])
    failed = (drawn == 0).float().mean(0)
    assert failed.tolist() == pytest.approx([hard, easy], abs=0.04)
    assert drawn.sum(1).min() == 1  # never both
    node.operation.eval()
    assert all(bool((node.operation(ones, ones) == 1).all()) for _ in range(20))


def test_faithless_merge_is_live_and_blanks_nan() -> None:
    node = FaithlessMerge(*vectors(1, 1, batch=1), failing_prob=0)
    assert torch.cat([node.operation(torch.ones(1, 1), torch.ones(1, 1)) for _ in range(50)]).all()
    node.failing_prob, node.hardeasy_ratio = 1, 1
    assert node.operation(torch.full((1, 1), torch.nan), torch.ones(1, 1)).tolist() == [[0, 1]]
    with pytest.raises(ModelError, match=r"hardeasy_ratio: 1.5"):
        FaithlessMerge(*vectors(1, 1), hardeasy_ratio=1.5)
    with pytest.raises(ShapeError, match="differ on axis b"):
        FaithlessMerge(*vectors(1), *vectors(1, batch=3))
    with pytest.raises(ShapeError, match="no axis 'x'"):
        FaithlessMerge(*vectors(1, 1), axis="x")


def low_is_larger() -> tuple[Node, Node]:
    raw = Input((2, 2, 32), "b,f,x", name="raw")
    return Crop(raw, (9,)), Pool(raw, (2,), mode="average")  # 14 at stride 1, 16 at stride 2


def test_what_is_cut_off_isnt_enlarged() -> None:
    high, low = low_is_larger()
    torch.manual_seed(0)
    merged = UpConvMerge(high, low, 3)
    assert merged.shape.spatial_shape == (14,)
    assert merged.shape.centre == high.shape.centre
    up = next(n for n in merged.all_parents.values() if isinstance(n, UpConv))
    assert up.shape.spatial_shape == (16,)
    # The same, cut off behind the enlargement.
    plain = Concat([Crop(UpConv(low, 3, (2,), w=up.w, b=up.b), (9,)), high])
    x = np.random.default_rng(0).normal(size=(2, 2, 32))
    np.testing.assert_array_equal(merged(x), plain(x))


def test_with_batch_normalisation_all_is_enlarged() -> None:
    merged = UpConvMerge(*low_is_larger(), 3, upconv_kwargs={"batch_normalisation": "train", "name": "up"})
    assert merged.all_parents["up"].shape.spatial_shape == (32,)
    assert merged.shape.spatial_shape == (14,)


def test_options_of_the_merge() -> None:
    high, low = low_is_larger()
    assert isinstance(UpConvMerge(high, low, 2, merge_mode="add"), Add)
    with pytest.raises(ShapeError, match="differ on axis f: 3 and 2"):
        UpConvMerge(high, low, 3, merge_mode="add")
    with pytest.raises(ShapeError, match="disable_upconv"):
        UpConvMerge(high, low, 3, disable_upconv=True)
    with pytest.raises(ModelError, match="upconv_kwargs can't hold pool_shape"):
        UpConvMerge(high, low, 3, upconv_kwargs={"pool_shape": (2,)})
    raw = Input((1, 2, 9), "b,f,x", name="raw")
    merged = UpConvMerge(raw, Conv(raw, 4, (3,)), disable_upconv=True, print_repr=False)
    assert merged.shape.shape == (1, 6, 7)
