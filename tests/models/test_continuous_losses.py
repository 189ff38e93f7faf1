"""Regressions, distances and likelihoods of numbers against formulas in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    AbsLoss,
    AggregateLoss,
    BetaNLL,
    BinaryNLL,
    Conv,
    EuclideanDistance,
    GaussianNLL,
    Input,
    Input_like,
    Model,
    Node,
    Perceptron,
    RampLoss,
    SobelizedLoss,
    SquaredLoss,
)
from elektronn_tui.models.plan import Plan

EPS = 1e-5
SIZES = {"b,f": (3, 4), "b,f,x": (3, 2, 5), "b,f,y,x": (2, 2, 3, 4), "b,f,z,y,x": (1, 2, 3, 4, 2)}


def pair(tags: str = "b,f,x") -> tuple[Input, Input]:
    return Input(SIZES[tags], tags, name="pred"), Input(SIZES[tags], tags, name="target")


def numbers(tags: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, target with unknown entries, and where it is known."""
    rng = np.random.default_rng(seed)
    p, t = rng.normal(size=SIZES[tags]), rng.normal(size=SIZES[tags])
    known = rng.random(SIZES[tags]) < 0.7
    t[~known] = np.where(rng.random((~known).sum()) < 0.5, -666, np.nan)
    return p, t, known


@pytest.mark.parametrize("tags", SIZES)
@pytest.mark.parametrize(("margin", "c"), [(None, None), (0.4, None), (None, 0.7), (0.4, 0.7)])
def test_squared_and_absolute_loss(tags: str, margin: float | None, c: float | None) -> None:
    p, t, known = numbers(tags)
    d, size = np.abs(p - t)[known], np.abs(t[known])
    m = margin or 0
    squared = np.maximum(d**2 - m**2, 0) / 2 * (c / (size + c) if c else 1)
    absolute = np.maximum(d - m, 0) * (c * size + 1 if c else 1)
    for cls, terms in ((SquaredLoss, squared), (AbsLoss, absolute)):
        node = cls(*pair(tags), margin=margin, scale_correction=c)
        assert set(node.variables) == {k for k, v in (("margin", margin), ("scale_correction", c)) if v}
        assert node(p, t).shape == tuple(
            1 if tag == "f" else n for n, tag in zip(p.shape, tags.split(","), strict=True)
        )
        assert AggregateLoss(node)(p, t)[0] == pytest.approx(terms.sum() / (known.sum() + 1), rel=1e-5)
        assert AggregateLoss(node)(p, np.full_like(t, np.nan))[0] == 0


def test_the_margin_is_live_and_leaves_no_jump() -> None:
    node = AbsLoss(Input((1, 2), "b,f", name="pred"), Input((1, 2), "b,f", name="target"), margin=1.0)
    p = np.zeros((1, 2))
    s = 2 / 3  # of 2 values over 2 known ones plus 1
    assert node(p, [[0.999, 1.001]])[0, 0] == pytest.approx(s * 0.001 / 2, rel=1e-2)
    node.margin = 0.5
    assert node(p, [[0.25, 1.0]])[0, 0] == pytest.approx(s * 0.5 / 2)
    with pytest.raises(ModelError, match="from 0"):
        node.margin = -1


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_sobelized_loss(ndim: int) -> None:
    rng = np.random.default_rng(1)
    tags = ",".join(["b", "f", *"zyx"[3 - ndim :]])
    size = (2, 2, *(4, 5, 6)[3 - ndim :])
    raw, target = Input(size, tags, name="raw"), Input(size, tags, name="target")
    p, t = rng.normal(size=size), rng.normal(size=size)

    def gradients(x: np.ndarray) -> np.ndarray:
        result = np.zeros((2, 2 * ndim, *size[2:]))
        for b, i in np.ndindex(2, 2):
            for d, axis in enumerate((0, 2, 1) if ndim == 3 else range(ndim)):
                image = x[b, i]
                for a in range(ndim):
                    line = [1, 0, -1] if a == axis else [0.3, 0.4, 0.3]
                    image = scipy.ndimage.correlate1d(image, line, axis=a, mode="constant")
                result[b, d * 2 + i] = image
        return result

    loss = SobelizedLoss(raw, target)
    assert [parent.name for parent in loss.parents] == ["pred_sobel", "target_sobel"]
    assert loss.parents[0](p) == pytest.approx(gradients(p), abs=1e-5)
    n = gradients(p).size
    expected = np.abs(gradients(p) - gradients(t)).sum() / (n + 1)
    assert AggregateLoss(loss)(p, t)[0] == pytest.approx(expected, rel=1e-4)
    assert isinstance(SobelizedLoss(raw, target, "squared", {"name": "other"}), SquaredLoss)
    with pytest.raises(ModelError, match="'abs' or 'squared'"):
        SobelizedLoss(raw, target, "cubed")
    assert loss.param_count == sum(parent.param_count for parent in loss.parents) == 0


def test_sobelized_loss_leaves_out_what_is_around_nan() -> None:
    raw, target = Input((1, 1, 6), "b,f,x", name="raw"), Input((1, 1, 6), "b,f,x", name="target")
    t = np.array([[[0, 0, 0, 0, 0, np.nan]]])
    value = SobelizedLoss(raw, target)(np.arange(6.0).reshape(1, 1, 6), t)
    assert np.isfinite(value).all()
    assert np.array_equal(value[0, 0] == 0, [False, False, False, False, True, True])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("tags", SIZES)
@pytest.mark.parametrize("entropy", [False, True])
def test_binary_nll(tags: str, entropy: bool) -> None:
    x, t, known = numbers(tags, 2)
    t[known] = np.random.default_rng(3).random(known.sum())
    p = sigmoid(x)
    node = BinaryNLL(*pair(tags), subtract_label_entropy=entropy)
    assert node.shape == node.parents[0].shape

    def ce(q: np.ndarray, t: np.ndarray) -> np.ndarray:
        return -t * np.log(q + EPS) - (1 - t) * np.log(1 - q + EPS)

    terms = ce(p[known], t[known]) - (ce(t[known], t[known]) if entropy else 0)
    assert AggregateLoss(node)(p, t)[0] == pytest.approx(terms.sum() / (known.sum() + 1), rel=1e-4)
    if entropy:
        assert np.abs(node(np.where(known, t, 0.5), t)).max() < 1e-6
    assert AggregateLoss(node)(p, np.full_like(t, -1))[0] == 0


def test_binary_nll_at_the_ends_is_finite() -> None:
    node = BinaryNLL(*pair("b,f"))
    values = node([[0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]])
    assert np.isfinite(values).all()


def test_gaussian_figure_and_density() -> None:
    inputs = [Input((None, 2), "b,f", name=n) for n in ("mu", "sig", "target")]
    node = GaussianNLL(*inputs)
    one = np.ones((1, 2))
    assert node(0 * one, 2 * one, one) == pytest.approx(1.737086 * one, abs=1e-6)
    rng = np.random.default_rng(4)
    mu, sig, t = rng.normal(size=(5, 2)), rng.random((5, 2)) + 0.1, rng.normal(size=(5, 2))
    expected = -scipy.stats.norm.logpdf(t, mu, sig)
    assert node(mu, sig, t) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert GaussianNLL(*inputs, sig_is_log=True)(mu, np.log(sig), t) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    t[1] = -666
    t[3, 0] = np.nan
    known = np.isfinite(t) & (t != -666)
    value = AggregateLoss(node)(mu, sig, t)
    assert value[0] == pytest.approx(expected[known].mean(), rel=1e-4)
    assert AggregateLoss(node)(mu, sig, np.full_like(t, np.nan))[0] == 0
    assert np.isfinite(node(mu, np.zeros_like(sig), t)).all()


def test_beta_figure_and_density() -> None:
    inputs = [Input((None, 1), "b,f", name=n) for n in ("mode", "c", "target")]
    node = BetaNLL(*inputs)
    assert node([[0.7]], [[5.0]], [[0.6]]) == pytest.approx(-0.525610, abs=2e-6)
    rng = np.random.default_rng(5)
    mode, c, t = rng.random((6, 1)), 2.1 + 5 * rng.random((6, 1)), 0.05 + 0.9 * rng.random((6, 1))
    expected = -scipy.stats.beta.logpdf(t, mode * (c - 2) + 1, (1 - mode) * (c - 2) + 1) + np.log1p(np.exp(-c))
    assert node(mode, c, t) == pytest.approx(expected, abs=2e-3)
    t[2] = -1
    value = AggregateLoss(node)(mode, c, t)
    assert value[0] == pytest.approx(np.delete(expected, 2).mean(), abs=2e-3)


@pytest.mark.parametrize("cls", [BinaryNLL, GaussianNLL, BetaNLL])
def test_targets_may_lack_the_axis_of_samples(cls: Any) -> None:
    def inputs(tags: str, size: tuple[int, ...]) -> list[Input]:
        names = ["a", "t"] if cls is BinaryNLL else ["a", "b", "t"]
        return [Input(size if n == "a" else size[: len(tags.split(","))], tags, name=n) for n in names]

    samples = Input((2, 3, 4), "b,f,s", name="a")
    full = [samples, *inputs("b,f,s", (2, 3, 4))[1:]]
    short = [samples, *inputs("b,f", (2, 3))[1:]]
    rng = np.random.default_rng(6)
    first = rng.random((2, 3, 4))
    others = [2.5 + rng.random((2, 3)) for _ in full[1:-1]] + [rng.random((2, 3))]
    others[-1][0, 0] = np.nan
    expected = cls(*full)(first, *(np.repeat(x[..., None], 4, 2) for x in others))
    node = cls(*short)
    assert node.shape.text == "[(2,b), (3,f), (4,s)]"
    assert node(first, *others) == pytest.approx(expected, rel=1e-5)


def test_euclidean_distance() -> None:
    node = EuclideanDistance(*pair("b,f,x"))
    rng = np.random.default_rng(7)
    p, t = rng.normal(size=(3, 2, 5)), rng.normal(size=(3, 2, 5))
    t[0, 1, 2], t[1, 0, 0] = np.nan, -666
    expected = np.sqrt(((p - t) ** 2).sum(1, keepdims=True))
    expected[0, 0, 2] = expected[1, 0, 0] = 0
    assert node(p, t) == pytest.approx(expected, rel=1e-5)
    x = torch.zeros(1, 2, 5, requires_grad=True)
    target = torch.zeros(1, 2, 5)
    target[..., 0] = torch.nan
    node.operation(x, target).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_ramp_loss() -> None:
    node = RampLoss(*pair("b,f"), margin=0.5)
    low, big = np.array([[1.0, 2, 3, np.nan]]), np.array([[1.0, 3, 2, 1]])
    assert node(low, big) == pytest.approx(np.array([[(0.5 + 0 + 1.5 + 0) / 4]]))
    node.margin = 0
    assert node(low, big) == pytest.approx(0.25)
    assert RampLoss(*pair("b,f")).margin == 0


def test_full_precision_under_autocast() -> None:
    raw = Input((1, 2, 6), "b,f,x", name="raw")
    target = Input((1, 2, 6), "b,f,x", name="target")
    first = Conv(raw, 2, (1,), activation_func="sig")
    second = Conv(raw, 2, (1,), activation_func="concentration")
    losses: list[Node] = [
        SquaredLoss(first, target),
        AbsLoss(first, target),
        BinaryNLL(first, target),
        GaussianNLL(first, second, target),
        BetaNLL(first, second, target),
        EuclideanDistance(first, target),
        RampLoss(first, second),
    ]
    total = AggregateLoss(losses)
    model = Model(raw, target, total, first)
    feeds = {"raw": torch.rand(1, 2, 6), "target": torch.rand(1, 2, 6)}
    with torch.autocast("cpu", torch.bfloat16):
        values = model.compute([*losses, total], feeds)
    assert all(value.dtype == torch.float32 for value in values)
    values[-1].backward()
    assert torch.isfinite(first.w.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_is_not_known_is_so_in_half_precision_too(dtype: torch.dtype) -> None:
    pred, target = pair("b,f")
    nodes: list[Node] = [SquaredLoss(pred, target), AbsLoss(pred, target), GaussianNLL(pred, pred, target)]
    values = torch.rand(SIZES["b,f"]).to(dtype)
    known = values.clone()
    known[0, 0], known[-1, -1] = -666.0, float("nan")
    for node in nodes:
        (loss,) = Plan([node]).run([values, known])
        assert loss.max() < 10, node.title


def test_bad_input() -> None:
    pred, target = pair("b,f,x")
    for cls in (SquaredLoss, AbsLoss, BinaryNLL, EuclideanDistance, RampLoss):
        with pytest.raises(ShapeError, match="size 5 on axis x"):
            cls(pred, Input((3, 2, 4), "b,f,x", name="other"))
        with pytest.raises(ShapeError, match="axes"):
            cls(pred, Input((3, 5), "b,x", name="other"))
    with pytest.raises(ModelError, match=r"margin: -1 .*from 0"):
        SquaredLoss(pred, target, margin=-1)
    with pytest.raises(ModelError, match="scale_correction: 0 "):
        SquaredLoss(pred, target, scale_correction=0)
    linear = Conv(pred, 2, (1,), activation_func="lin", name="linear")
    with pytest.raises(ModelError, match=r"'linear' has the activation 'lin'; it needs sig"):
        BinaryNLL(linear, target)
    with pytest.raises(ModelError, match=r"standard deviation 'linear'.*soft\+"):
        GaussianNLL(pred, linear, target)
    GaussianNLL(pred, linear, target, sig_is_log=True)
    with pytest.raises(ModelError, match="concentration 'linear'"):
        BetaNLL(pred, linear, target)
    with pytest.raises(ShapeError, match="axis f"):
        GaussianNLL(pred, Input((3, 1, 5), "b,f,x"), target)
    with pytest.raises(ModelError, match="must be of floats, not int64"):
        SobelizedLoss(pred, Input_like(pred, "int64"))
    with pytest.raises(ShapeError, match="vectors on an axis f"):
        EuclideanDistance(Input((3, 5), "b,x"), Input((3, 5), "b,x"))
    assert isinstance(Perceptron(pred, 1), Node)
