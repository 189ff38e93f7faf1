"""Tiles within memory, blended tiles of networks that pad, flips, precision, and runs that don't fit."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.errors import ModelError
from elektronn_tui.models import AutoMerge, Conv, Input, Model, Pool
from elektronn_tui.models.blending import corners, window
from elektronn_tui.models.predictor import DenseOptions, DensePredictor


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def flat() -> Model:
    raw = Input((None, 1, 15, 15), "b,f,y,x", name="raw")
    return Model(raw, prediction_node=Conv(Conv(raw, 4, (3, 2), activation_func="tanh"), 2, (3, 4)))


def strided() -> Model:
    raw = Input((None, 1, 16, 18), "b,f,y,x", name="raw")
    out = Conv(Pool(Conv(raw, 3, (3, 3), (2, 2), activation_func="tanh"), (1, 2)), 2, (2, 2), activation_func="lin")
    return Model(raw, prediction_node=out)


def unet() -> Model:
    raw = Input((None, 1, 4, 22, 22), "b,f,z,y,x", name="raw")
    fine = Conv(raw, 3, (1, 3, 3), activation_func="tanh")
    coarse = Conv(Pool(fine, (1, 2, 2)), 4, (3, 3, 3), activation_func="tanh")
    return Model(raw, prediction_node=Conv(AutoMerge(fine, coarse, upconv_n_f=3), 2, (1, 3, 3), activation_func="lin"))


def padding(pool: int = 2) -> Model:
    raw = Input((None, 1, 12, 12), "b,f,y,x", name="raw")
    fine = Conv(raw, 3, (3, 3), conv_mode="same", activation_func="tanh")
    coarse = Conv(Pool(fine, (pool, pool)), 3, (3, 3), conv_mode="same", activation_func="tanh")
    return Model(raw, prediction_node=Conv(AutoMerge(fine, coarse, upconv_n_f=2), 2, (1, 1), activation_func="lin"))


VALID = {"flat": flat, "strided": strided, "unet": unet}


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(sorted(VALID)),
    engine=st.sampled_from(["auto", "mfp", "shifts"]),
    kilobytes=st.integers(1, 300),
    more=st.tuples(*[st.integers(0, 30)] * 3),
    batch_size=st.integers(1, 3),
)
def test_values_dont_depend_on_the_memory(name: str, engine: Any, kilobytes: int, more: Any, batch_size: int) -> None:
    torch.manual_seed(0)
    model = VALID[name]()
    ndim = model.prediction_node.shape.ndim
    image = (
        picture(1, *(11 + n for n in more[-ndim:]))
        if ndim == 2
        else picture(1, 3 + more[0] % 4, *(13 + n for n in more[1:]))
    )
    whole = model.predict_dense(image, engine=engine, memory=2**40)
    options = {"engine": engine, "memory": kilobytes * 1000, "batch_size": batch_size}
    np.testing.assert_allclose(model.predict_dense(image, **options), whole, atol=1e-5)


def test_tiles_are_equal_and_fit_into_the_memory_that_they_may_take() -> None:
    node = flat().prediction_node
    one = DensePredictor(node, (400, 300), options=DenseOptions(memory=2**40)).tiling
    assert one.patch == (400, 300)
    assert one.step == (396, 296)
    for part in (2, 5, 30):
        predictor = DensePredictor(node, (400, 300), options=DenseOptions(memory=one.bytes // part))
        tiling = predictor.tiling
        assert one.bytes / part / 2 < tiling.bytes <= one.bytes / part
        counts = [-(-n // s) for n, s in zip(predictor.out, tiling.step, strict=True)]
        assert [s - -(-n // k) for n, s, k in zip(predictor.out, tiling.step, counts, strict=True)] == [0, 0]
    smallest = DensePredictor(node, (400, 300), options=DenseOptions(memory=1)).tiling
    assert smallest.step == (1, 1)


def test_a_patch_that_is_given_is_taken_whatever_the_memory() -> None:
    predictor = DensePredictor(flat().prediction_node, (40, 30), options=DenseOptions(memory=1, patch_shape=(20, 25)))
    assert predictor.tiling.patch == (20, 25)


def blended(model: Model, image: np.ndarray, patch: int, step: int, blend: Any) -> np.ndarray:
    """Return the weighted mean of tiles, each computed by itself."""
    total, weights = np.zeros((2, *image.shape[1:])), np.zeros(image.shape[1:])
    one = np.outer(window(blend, patch), window(blend, patch))
    for y, x in itertools.product(*(corners(n, patch, step) for n in image.shape[1:])):
        total[:, y : y + patch, x : x + patch] += one * model.predict(image[None, :, y : y + patch, x : x + patch])[0]
        weights[y : y + patch, x : x + patch] += one
    return total / weights


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_networks_that_pad_are_blended_where_the_image_is_too_large(
    blend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    model, image = padding(), picture(1, 41, 30)
    expected = blended(model, image, 12, 8, blend)  # 12 less a quarter, in steps of the pooling
    np.testing.assert_allclose(model.predict_dense(image, memory=20_000, blend=blend), expected, atol=1e-5)
    assert "GiB to see all of 41×30 at once; tiles of 12×12 are blended instead" in caplog.text
    caplog.clear()
    np.testing.assert_allclose(
        model.predict_dense(image, patch_shape=(12, 12), blend=blend, batch_size=3), expected, atol=1e-5
    )
    assert not caplog.text
    wide = model.predict_dense(image, patch_shape=(12, 12), overlap=0.8, blend=blend)
    np.testing.assert_allclose(wide, blended(model, image, 12, 2, blend), atol=1e-5)


def test_blending_is_near_the_whole_and_nearer_with_more_overlap() -> None:
    torch.manual_seed(0)
    model, image = padding(), picture(1, 64, 64)
    whole = model.predict_dense(image)
    np.testing.assert_allclose(whole, model.predict(image[None])[0], atol=1e-6)

    def error(**options: Any) -> float:
        return float(np.abs(model.predict_dense(image, patch_shape=(24, 24), **options) - whole).mean())

    assert error(overlap=0.5) < error(overlap=0.25) < error(overlap=0.0)
    assert error(overlap=0.5) < error(overlap=0.5, blend="constant")
    assert model.predict_dense(image, patch_shape=(200, 64)) == pytest.approx(whole)  # as large as the image


@pytest.mark.parametrize("lo", [(0, 0), (8, 5), (17, 16)])
def test_a_box_of_blended_tiles_has_the_bytes_of_the_whole(lo: tuple[int, int]) -> None:
    torch.manual_seed(0)
    image = picture(1, 41, 30)
    predictor = DensePredictor(padding().prediction_node, (41, 30), options=DenseOptions(patch_shape=(12, 12)))
    assert predictor.blended
    whole = predictor.run(image[:, None], (0, 0), (41, 30))
    hi = (lo[0] + 9, 30)
    (a, b), (c, d) = predictor.box(lo, hi)
    part = predictor.run(image[:, None, a:c, b:d], lo, hi)
    assert part.tobytes() == np.ascontiguousarray(whole[:, :, lo[0] : hi[0], lo[1] : hi[1]]).tobytes()


def test_a_strided_network_that_pads_must_see_the_whole_image() -> None:
    raw = Input((None, 1, 12, 12), "b,f,y,x", name="raw")
    node = Conv(raw, 2, (3, 3), (2, 2), conv_mode="same")
    with pytest.raises(ModelError, match="has strides, so it must see the whole image"):
        node.predict_dense(picture(1, 40, 40), patch_shape=(12, 12))


@pytest.mark.parametrize("name", ["flat", "strided"])
def test_flips_are_averaged(name: str) -> None:
    torch.manual_seed(0)
    model, image = VALID[name](), picture(1, 25, 31)
    flipped = [
        np.flip(model.predict_dense(np.flip(image, axes).copy(), memory=10_000), axes)
        for axes in ((), (1,), (2,), (1, 2))
    ]
    np.testing.assert_allclose(model.predict_dense(image, flips="yx", memory=20_000), np.mean(flipped, 0), atol=1e-5)
    np.testing.assert_allclose(model.predict_dense(image, flips="x"), (flipped[0] + flipped[2]) / 2, atol=1e-5)
    with pytest.raises(ModelError, match="has the axes y, x; flips 'z' are of others"):
        model.predict_dense(image, flips="z")


def test_flips_need_a_run_that_gives_every_voxel() -> None:
    with pytest.raises(ModelError, match="flips need a network that gives every voxel in one run"):
        strided().predict_dense(picture(1, 25, 31), flips="x", engine="shifts")


def test_affinities_are_not_flipped() -> None:
    node = flat().prediction_node
    node.feature_names = ("affinity 0,-1,0", "affinity 0,0,-1")
    with pytest.raises(ModelError, match="gives affinities, which have a direction"):
        node.predict_dense(picture(1, 25, 31), flips="x")


def test_bf16_is_near_and_auto_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    from elektronn_tui.models import precision

    model, image = flat(), picture(1, 25, 31)
    exact, half = model.predict_dense(image), model.predict_dense(image, precision="bf16")
    assert 1e-6 < np.abs(exact - half).max() < 0.1
    for flags, expected in (({"avx512_bf16"}, half), ({"avx2"}, exact)):
        monkeypatch.setattr(precision, "cpu_flags", lambda flags=flags: frozenset(flags))
        assert np.array_equal(model.predict_dense(image, precision="auto"), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 1}, "overlap must be a share from 0 to less than 1, not 1"),
        ({"blend": "linear"}, "blend must be gaussian or constant, not 'linear'"),
        ({"flips": "xx"}, "flips must be some of the axes z, y, x"),
        ({"flips": True}, "flips must be some of the axes z, y, x"),
        ({"precision": "fp16"}, "precision must be fp32, bf16 or auto, not 'fp16'"),
        ({"memory": 0}, "memory must be a number of bytes, not 0"),
        ({"batch_size": True}, "batch_size must be a whole number from 1 on, not True"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        flat().predict_dense(picture(1, 25, 31), **options)


LIMITED = """
import logging, resource, sys
import numpy as np, psutil, torch
from elektronn_tui.models import Conv, Input, Model

torch.set_num_threads(1)
torch.manual_seed(0)
raw = Input((None, 1, 24, 64, 64), "b,f,z,y,x", name="raw")
mode = sys.argv[1]
out = Conv(Conv(raw, 16, (3, 3, 3), conv_mode=mode), 2, (1, 1, 1), activation_func="lin")
model = Model(raw, prediction_node=out)
image = np.random.default_rng(0).normal(size=(1, 64, 256, 256)).astype(np.float32)
small = model.predict_dense(image, patch_shape=(24, 64, 64))
logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
limit = psutil.Process().memory_info().vms + 400 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
got = model.predict_dense(image, memory=2**40)
print("same", np.abs(got - small).max() < 1e-5)
"""


@pytest.mark.parametrize("mode", ["valid", "same"])
def test_a_tile_that_does_not_fit_gives_way_to_smaller_ones(mode: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, mode], capture_output=True, text=True, timeout=120, check=True
    )
    said, same = done.stdout.splitlines()[0], done.stdout.splitlines()
    assert "a tile of 64×256×256 doesn't fit into memory; tiles of " in said
    assert ("blended where they overlap" in said) == (mode == "same")
    assert "same True" in same


HUGE = """
import resource, sys
import numpy as np, psutil, torch
from elektronn_tui.errors import ModelError
from elektronn_tui.models import Conv, Input, Model

torch.set_num_threads(1)
raw = Input((1, 1, 64, 256, 256), "b,f,z,y,x", name="raw", hardcoded_shape=True)
model = Model(raw, prediction_node=Conv(Conv(raw, 16, (3, 3, 3)), 2, (1, 1, 1)))
image = np.zeros((1, 64, 256, 256), np.float32)
limit = psutil.Process().memory_info().vms + 200 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    model.predict_dense(image)
except ModelError as error:
    print(error)
"""


def test_a_network_of_fixed_size_that_does_not_fit_says_so() -> None:
    done = subprocess.run([sys.executable, "-c", HUGE], capture_output=True, text=True, timeout=120, check=True)
    assert "a tile of 64×256×256 doesn't fit into memory, it takes about" in done.stdout
    assert "give a smaller patch_shape" in done.stdout


MEASURED = """
import re, sys
from pathlib import Path
import numpy as np, torch
from elektronn_tui.models.predictor import DenseOptions, DensePredictor
from elektronn_tui.training.opening import open_model


def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])  # of this program alone


torch.set_num_threads(1)
model = open_model(sys.argv[1])
size = tuple(int(n) for n in sys.argv[2].split(","))
small = DensePredictor(model.prediction_node, size, options=DenseOptions(memory=1))
image = np.zeros((1, 1, *size), np.float32)
small.run(image[(..., *(slice(n) for n in small.tiling.patch))], (0,) * len(size), small.tiling.step)
before = peak()
one = DensePredictor(model.prediction_node, size, options=DenseOptions(memory=2**40))
one.run(image, (0,) * len(size), one.out)
print((peak() - before) * 1024, one.tiling.bytes)
"""


@pytest.mark.parametrize(("name", "size"), [("unet3d_litelite", "22,268,268"), ("neuro3d_lite", "12,160,160")])
def test_the_memory_of_a_run_is_foreseen(name: str, size: str) -> None:
    command = [sys.executable, "-c", MEASURED, name, size]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=True)
    measured, foreseen = map(int, done.stdout.split())
    assert 0.6 < foreseen / measured < 2, (foreseen, measured)
