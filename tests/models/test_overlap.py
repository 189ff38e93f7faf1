"""Dice, Tversky, cross-entropy with Dice, and Lovász against formulas in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    AggregateLoss,
    BCEDiceLoss,
    Conv,
    DiceLoss,
    Input,
    Input_like,
    LovaszLoss,
    Model,
    Node,
    Perceptron,
    Softmax,
    TverskyLoss,
)

EPS = 1e-5


def softmax_graph(n_indep: int = 1) -> tuple[Softmax, Input]:
    probs = Softmax(Input((None, 3 * n_indep, 8), "b,f,x", name="raw"), n_indep=n_indep)
    return probs, Input_like(probs, override_f=n_indep, dtype="int64", name="target")


def data(n_indep: int = 1, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Scores, ids with unlabelled ones, probabilities, one-hot target, labelled features."""
    rng = np.random.default_rng(seed)
    x, ids = rng.normal(size=(3, 3 * n_indep, 8)), rng.integers(-1, 3, (3, n_indep, 8))
    groups = x.reshape(3, n_indep, 3, 8)
    p = np.exp(groups) / np.exp(groups).sum(2, keepdims=True)
    t = (ids[:, :, None] == np.arange(3)[:, None]).astype(float)
    known = np.repeat((ids >= 0)[:, :, None], 3, 2).astype(float)
    return x, ids, p.reshape(x.shape), t.reshape(x.shape), known.reshape(x.shape)


@pytest.mark.parametrize("n_indep", [1, 2])
def test_dice_and_tversky(n_indep: int) -> None:
    x, ids, p, t, known = data(n_indep)
    probs, target = softmax_graph(n_indep)
    both, p_sum, t_sum = (p * t).sum(2), (p * known).sum(2), t.sum(2)
    dice = DiceLoss(probs, target, True)
    assert dice(x, ids) == pytest.approx(1 - (2 * both + 1) / (p_sum + t_sum + 1), abs=1e-5)
    dice.smooth = 0.1
    assert dice(x, ids) == pytest.approx(1 - (2 * both + 0.1) / (p_sum + t_sum + 0.1), abs=1e-5)
    squared = (p * p * known).sum(2) + t_sum
    assert DiceLoss(probs, target, True, squared=True)(x, ids) == pytest.approx(
        1 - (2 * both + 1) / (squared + 1), abs=1e-5
    )
    index = (both + 1) / (both + 0.3 * (p_sum - both) + 0.7 * (t_sum - both) + 1)
    tversky = TverskyLoss(probs, target, True)
    assert tversky(x, ids) == pytest.approx(1 - index, abs=1e-5)
    tversky.gamma = 0.75
    assert tversky(x, ids) == pytest.approx((1 - index + EPS) ** 0.75 - EPS**0.75, abs=1e-5)
    tversky.gamma, tversky.alpha, tversky.beta = 1, 0.5, 0.5
    dice.smooth = 2
    assert tversky(x, ids) == pytest.approx(dice(x, ids), abs=1e-5)


def test_soft_targets_weights_and_the_batch_as_one() -> None:
    x, ids, p, t, known = data()
    probs, target = softmax_graph()
    dense = DiceLoss(probs, Input_like(probs, name="t"))
    assert dense(x, t) == pytest.approx(DiceLoss(probs, target, True)(x, ids), abs=1e-6)
    e = np.random.default_rng(1).random((3, 8))
    node = DiceLoss(probs, target, True, [1, 2, 5], Input((None, 8), "b,x", name="e"), per_example=False)
    assert node.shape.text == "[(1,b), (3,f)]"
    w = e[:, None]
    loss = 1 - (2 * (w * p * t).sum((0, 2)) + 1) / ((w * p * known).sum((0, 2)) + (w * t).sum((0, 2)) + 1)
    expected = (loss * [1, 2, 5]).sum() / 8
    assert AggregateLoss(node)(x, ids, e)[0] == pytest.approx(expected, rel=1e-4)


def test_generalised_dice() -> None:
    x, ids, p, t, known = data(2)
    probs, target = softmax_graph(2)
    node = DiceLoss(probs, target, True, smooth=0.5, generalised=True)
    assert node.shape.text == "[(None,b), (2,f)]"
    both, size, volume = (p * t).sum(2), (p * known).sum(2) + t.sum(2), t.sum(2)
    w = (1 / np.maximum(volume, 1) ** 2).reshape(3, 2, 3)
    w = 3 * w / w.sum(2, keepdims=True)
    part, whole = ((w * v.reshape(3, 2, 3)).sum(2) for v in (both, size))
    assert node(x, ids) == pytest.approx(1 - (2 * part + 0.5) / (whole + 0.5), abs=1e-5)


def test_examples_without_a_label_are_left_out() -> None:
    x, ids, *_ = data()
    probs, target = softmax_graph()
    ids[1] = -1
    for cls in (DiceLoss, TverskyLoss, BCEDiceLoss, LovaszLoss):
        loss = AggregateLoss(cls(probs, target, True))
        assert loss(x, ids)[0] == pytest.approx(loss(x[[0, 2]], ids[[0, 2]])[0], rel=1e-5)
        assert loss(x, np.full_like(ids, -1))[0] == 0


def test_nothing_has_no_gradient_and_no_nan() -> None:
    probs, target = softmax_graph()
    for node in (DiceLoss(probs, target, True, smooth=0), TverskyLoss(probs, target, True, gamma=0.5, smooth=0),
                 BCEDiceLoss(probs, target, True, smooth=0), LovaszLoss(probs, target, True)):  # fmt: skip
        x = torch.randn(2, 3, 8, requires_grad=True)
        node.operation(probs.operation(x), torch.full((2, 1, 8), -1)).mean().backward()
        assert x.grad is not None
        assert torch.equal(x.grad, torch.zeros_like(x))


def test_a_perfect_prediction_costs_nothing() -> None:
    probs, target = softmax_graph()
    ids = np.random.default_rng(2).integers(0, 3, (2, 1, 8))
    x = 100.0 * (ids == np.arange(3)[:, None])
    for cls in (DiceLoss, TverskyLoss, BCEDiceLoss, LovaszLoss):
        assert AggregateLoss(cls(probs, target, True))(x, ids)[0] == pytest.approx(0, abs=2e-5)


def sigmoid_graph() -> tuple[Perceptron, Input]:
    raw = Input((None, 2, 8), "b,f,x", name="raw")
    probs = Perceptron(raw, 2, "sig", w=np.eye(2), b=np.zeros(2))
    return probs, Input_like(probs, name="target")


def test_cross_entropy_and_dice_of_sigmoids() -> None:
    rng = np.random.default_rng(3)
    x, t = rng.normal(size=(3, 2, 8)), rng.random((3, 2, 8)).round()
    known = rng.random((3, 2, 8)) < 0.7
    p = 1 / (1 + np.exp(-x))
    node = BCEDiceLoss(*sigmoid_graph(), dice_weight=0.5)
    ce = ((-t * np.log(p + EPS) - (1 - t) * np.log(1 - p + EPS)) * known).sum(2) / known.sum(2)
    dice = 1 - (2 * (p * t * known).sum(2) + 1) / ((p * known).sum(2) + (t * known).sum(2) + 1)
    assert node(x, np.where(known, t, -1)) == pytest.approx(ce + 0.5 * dice, abs=1e-4)
    node.bce_weight, node.dice_weight = 0, 1
    assert node(x, np.where(known, t, np.nan)) == pytest.approx(dice, abs=1e-4)


def test_cross_entropy_and_dice_of_a_softmax() -> None:
    x, ids, p, t, known = data(2)
    probs, target = softmax_graph(2)
    node = BCEDiceLoss(probs, target, True, dice_weight=0)
    ce = (-t * np.log(p + EPS)).reshape(3, 2, 3, 8).sum((2, 3)) / known.reshape(3, 2, 3, 8)[:, :, 0].sum(2)
    assert node(x, ids) == pytest.approx(np.repeat(ce, 3, 1), abs=1e-4)


def jaccard(missed: np.ndarray, truth: np.ndarray) -> float:
    """Jaccard loss of a set of mispredicted positions (Berman et al., equation 6)."""
    union = (truth | missed).sum()
    return missed.sum() / union if union else 0.0


def lovasz_by_hand(errors: np.ndarray, truth: np.ndarray) -> float:
    order = np.argsort(-errors, kind="stable")
    value, before = 0.0, 0.0
    missed = np.zeros(len(truth), bool)
    for i in order:
        missed[i] = True
        now = jaccard(missed, truth)
        value += errors[i] * (now - before)
        before = now
    return value


@pytest.mark.parametrize("per_example", [True, False])
def test_lovasz(per_example: bool) -> None:
    x, ids, p, t, known = data(seed=4)
    ids[0][ids[0] == 2] = 1
    t = (ids == np.arange(3)[:, None]).astype(float)
    probs, target = softmax_graph()
    node = LovaszLoss(probs, target, True, per_example=per_example)
    rows = [([b], c) for b in range(3) for c in range(3)] if per_example else [([0, 1, 2], c) for c in range(3)]
    values = []
    for examples, c in rows:
        mask = known[examples, c].astype(bool).ravel()
        truth = t[examples, c].ravel()[mask] > 0
        if truth.any():
            values.append(lovasz_by_hand(np.abs(truth - p[examples, c].ravel()[mask]), truth))
    assert len(values) < len(rows) or not per_example
    assert AggregateLoss(node)(x, ids)[0] == pytest.approx(np.mean(values), rel=1e-4)


def test_lovasz_at_hard_predictions_is_the_jaccard_loss() -> None:
    rng = np.random.default_rng(5)
    raw = Input((None, 1, 20), "b,f,x", name="raw")
    probs = Perceptron(raw, 1, "sig", w=np.eye(1), b=np.zeros(1))
    node = LovaszLoss(probs, Input_like(probs, name="target"))
    t = rng.integers(0, 2, (4, 1, 20))
    found = rng.integers(0, 2, (4, 1, 20))
    t[3] = 0  # of yes and no, what does not occur counts too
    expected = [[jaccard((f != g), g > 0)] for f, g in zip(found[:, 0], t[:, 0], strict=True)]
    assert node(200.0 * (found - 0.5), t.astype(float)) == pytest.approx(np.array(expected), abs=1e-5)


def test_lovasz_hinge() -> None:
    rng = np.random.default_rng(6)
    x, t = rng.normal(size=(2, 1, 8)), rng.integers(0, 2, (2, 1, 8)).astype(float)
    known = rng.random((2, 1, 8)) < 0.8
    raw = Input((None, 1, 8), "b,f,x", name="raw")
    score = Perceptron(raw, 1, "lin", w=np.eye(1), b=np.zeros(1))
    node = LovaszLoss(score, Input_like(score, name="target"))
    expected = []
    for b in range(2):
        m = known[b, 0]
        errors = 1 - x[b, 0, m] * (2 * t[b, 0, m] - 1)
        order = np.argsort(-errors)
        weights = lovasz_gradient(t[b, 0, m][order] > 0)
        expected.append([(np.maximum(errors[order], 0) * weights).sum()])
    assert node(x, np.where(known, t, -1)) == pytest.approx(np.array(expected), rel=1e-4)


def lovasz_gradient(truth: np.ndarray) -> np.ndarray:
    steps = [jaccard(np.arange(len(truth)) < k, truth) for k in range(len(truth) + 1)]
    return np.diff(steps)


def test_full_precision_under_autocast() -> None:
    raw = Input((1, 2, 6, 6), "b,f,y,x", name="raw")
    probs = Softmax(Conv(raw, 2, (3, 3), activation_func="lin"))
    target = Input_like(probs, override_f=1, dtype="int64", name="target")
    kinds: list[Any] = [DiceLoss, TverskyLoss, BCEDiceLoss, LovaszLoss]
    losses: list[Node] = [cls(probs, target, True) for cls in kinds]
    total = AggregateLoss(losses)
    model = Model(raw, target, total, probs)
    feeds = {"raw": torch.rand(1, 2, 6, 6), "target": torch.randint(0, 2, (1, 1, 4, 4))}
    with torch.autocast("cpu", torch.bfloat16):
        values = model.compute([*losses, total], feeds)
    assert all(value.dtype == torch.float32 for value in values)
    values[-1].backward()
    assert torch.isfinite(model["conv"].w.grad).all()


def test_bad_input() -> None:
    probs, target = softmax_graph()
    for cls in (DiceLoss, TverskyLoss, BCEDiceLoss, LovaszLoss):
        with pytest.raises(ShapeError, match="size 8 on axis x"):
            cls(probs, Input((None, 1, 7), "b,f,x", dtype="int64"), True)
        with pytest.raises(ModelError, match="neither a Softmax nor a sigmoid"):
            cls(probs.parents[0], target, True)
        with pytest.raises(ModelError, match="3 numbers"):
            cls(probs, target, True, class_weights=[1, 2])
    with pytest.raises(ShapeError, match="example_weights"):
        DiceLoss(probs, target, True, example_weights=Input((None, 7), "b,x"))
    with pytest.raises(ModelError, match=r"smooth: -1 .*from 0"):
        DiceLoss(probs, target, True, smooth=-1)
    with pytest.raises(ModelError, match="generalised needs a Softmax"):
        DiceLoss(*sigmoid_graph(), generalised=True)
    with pytest.raises(ModelError, match="'present' or 'all'"):
        LovaszLoss(probs, target, True, "some")  # type: ignore[arg-type]
    over_time = Softmax(Input((3, 2, 4), "r,b,f", name="raw"))
    with pytest.raises(ShapeError, match="first axis of the prediction must be b"):
        DiceLoss(over_time, Input((3, 2, 1), "r,b,f", dtype="int64"), True)
