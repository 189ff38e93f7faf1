"""Blocking, smoothing, focus, and predictions that are no Softmax themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    AggregateLoss,
    BlockedMultinoulliNLL,
    FocalNLL,
    Input,
    Input_like,
    Model,
    MultinoulliNLL,
    Node,
    OneHot,
    Perceptron,
    Softmax,
    load_model,
)

EPS = 1e-5


def scores(n_f: int = 3, size: int = 5, n_indep: int = 1) -> Softmax:
    return Softmax(Input((None, n_f, size), "b,f,x", name="raw"), n_indep=n_indep)


def ids(probs: Node, n: int = 1) -> Input:
    return Input_like(probs, override_f=n, dtype="int64", name="target")


def softmax(x: np.ndarray, axis: int = 1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def one_hot(labels: np.ndarray, n: int) -> np.ndarray:
    return np.stack([labels[:, 0] == c for c in range(n)], 1).astype(float)


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(4, 3, 5)), rng.integers(-1, 4, (4, 1, 5))


def test_blocking_raises_all_but_the_background_to_a_share_of_the_leader(batch: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = batch
    x = 3 * x
    probs = scores()
    nll = BlockedMultinoulliNLL(probs, ids(probs), target_is_sparse=True)
    loss = AggregateLoss(nll)
    for factor in (0.5, 0.9, 0.0):
        nll.blocking_factor = factor
        p = softmax(x)
        p[:, 1:] = np.maximum(p[:, 1:], factor * p[:, 1:].max(1, keepdims=True))
        t = one_hot(labels, 3)
        assert loss(x, labels)[0] == pytest.approx(-(t * np.log(p + EPS)).sum() / t.sum(), rel=1e-4)
    plain = AggregateLoss(MultinoulliNLL(probs, ids(probs), target_is_sparse=True))
    assert loss(x, labels) == pytest.approx(plain(x, labels))
    with pytest.raises(ModelError, match="to 1"):
        nll.blocking_factor = 1.5


def test_a_blocked_label_pulls_at_nothing() -> None:
    probs = Softmax(Input((1, 3, 2), "b,f,x", name="raw"))
    nll = BlockedMultinoulliNLL(probs, ids(probs), 0.5, True)
    # Class 2 leads at both positions; the label 1 is contradicted at position 0 and near the leader at position 1.
    x = torch.tensor([[[0.0, 0.0], [0.0, 1.9], [4.0, 2.0]]], requires_grad=True)
    nll.operation(probs.operation(x), torch.tensor([[[1, 1]]])).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad[0, :, 0], torch.zeros(3))
    assert x.grad[0, 1, 1] < 0 < x.grad[0, 2, 1]


def test_label_smoothing(batch: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = batch
    probs = scores()
    nll = MultinoulliNLL(probs, ids(probs), True, label_smoothing=0.3)
    loss = AggregateLoss(nll)
    t = one_hot(labels, 3)
    labelled = t.sum(1, keepdims=True)
    for share in (0.3, 0.1):
        nll.label_smoothing = share
        soft = (1 - share) * t + share / 3 * labelled
        expected = -(soft * np.log(softmax(x) + EPS)).sum() / labelled.sum()
        assert loss(x, labels)[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("n_indep", [1, 2])
@pytest.mark.parametrize("sparse", [True, False])
def test_focal(sparse: bool, n_indep: int) -> None:
    rng = np.random.default_rng(4)
    x, labels = rng.normal(size=(2, 3 * n_indep, 4)), rng.integers(-1, 3, (2, n_indep, 4))
    probs = scores(3 * n_indep, 4, n_indep)
    target = ids(probs, n_indep) if sparse else Input_like(probs, name="target")
    weights = rng.random(3 * n_indep)
    node = FocalNLL(probs, target, sparse, 2.0, weights, Input((None, 4), "b,x", name="e"))
    loss = AggregateLoss(node)
    p = softmax(x.reshape(2, n_indep, 3, 4), 2).reshape(2, -1, 4)
    t = (labels[:, :, None] == np.arange(3)[:, None]).reshape(2, -1, 4).astype(float)
    e = rng.random((2, 4))
    for gamma in (2.0, 0.5, 0.0):
        node.gamma = gamma
        terms = -t * (1 - p) ** gamma * np.log(p + EPS) * weights[:, None] * e[:, None]
        assert loss(x, labels if sparse else t, e)[0] == pytest.approx(terms.sum() / t.sum(), rel=1e-4)
    with pytest.raises(ModelError, match="from 0"):
        node.gamma = -1


def test_focal_of_sigmoids() -> None:
    raw = Input((None, 2, 4), "b,f,x", name="raw")
    probs = Perceptron(raw, 2, "sig", w=np.eye(2), b=np.zeros(2))
    loss = AggregateLoss(FocalNLL(probs, Input_like(probs, name="target")))
    rng = np.random.default_rng(5)
    x, t = rng.normal(size=(2, 2, 4)), rng.random((2, 2, 4))
    known = rng.random((2, 2, 4)) < 0.7
    p = 1 / (1 + np.exp(-x))
    terms = -t * (1 - p) ** 2 * np.log(p + EPS) - (1 - t) * p**2 * np.log(1 - p + EPS)
    expected = terms[known].mean()
    assert loss(x, np.where(known, t, -1))[0] == pytest.approx(expected, rel=1e-4)
    assert loss(x, np.where(known, t, np.nan))[0] == pytest.approx(expected, rel=1e-4)
    assert loss(x, np.full_like(t, -1))[0] == 0


def test_focal_gradient_is_finite_where_the_prediction_is_certain() -> None:
    probs = Softmax(Input((1, 2, 1), "b,f,x", name="raw"))
    node = FocalNLL(probs, ids(probs), True, 0.5)
    x = torch.tensor([[[90.0], [-90.0]]], requires_grad=True)
    node.operation(probs.operation(x), torch.tensor([[[0]]])).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


class Probabilities(Node):
    """A node of probabilities that is no Softmax, as a piece split from one."""

    def __init__(self, parent: Node, n_class: int, n_indep: int, name: str = "piece") -> None:
        super().__init__(parent, name)
        self.n_class, self.n_indep = n_class, n_indep
        self._build(torch.nn.Identity())


def test_any_node_of_probabilities_will_do() -> None:
    raw = Input((None, 4, 3), "b,f,x", name="raw")
    piece = Probabilities(raw, 2, 2)
    nll = MultinoulliNLL(piece, ids(piece, 2), True)
    assert (nll.n_class, nll.n_indep) == (2, 2)
    p = np.full((1, 4, 3), 0.5)
    assert AggregateLoss(nll)(p, np.zeros((1, 2, 3), int))[0] == pytest.approx(np.log(2), rel=1e-4)
    with pytest.raises(ModelError, match="needs the output of a Softmax"):
        MultinoulliNLL(Probabilities(raw, 3, 2), ids(piece, 2), True)  # 6 features are not there


def test_features_may_lie_on_another_axis() -> None:
    rng = np.random.default_rng(6)
    x, labels = rng.normal(size=(3, 2, 4)), rng.integers(-1, 4, (3, 2, 1))
    probs = Softmax(Input((3, 2, 4), "r,b,f", name="raw"))
    weights = Input((3, 2, 1), "r,b,f", name="e")
    nll = MultinoulliNLL(probs, Input((3, 2, 1), "r,b,f", dtype="int64", name="t"), True, None, weights)
    e = rng.random((3, 2, 1))
    t = (labels == np.arange(4)).astype(float)
    expected = -(t * np.log(softmax(x, 2) + EPS) * e).sum() / t.sum()
    assert nll(x, labels, e).shape == (3, 2, 1)
    assert AggregateLoss(nll)(x, labels, e)[0] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ShapeError, match="axes begin with b, f"):
        MultinoulliNLL(probs, nll.parents[1], True, mask_class_labeled=Input((3, 4), "b,f"))


def test_weights_given_as_an_array_are_saved(tmp_path: Path) -> None:
    probs = scores()
    nll = MultinoulliNLL(probs, ids(probs), True, class_weights=torch.tensor([1.0, 2, 3]))
    nll.class_weights = [3, 2, 1]
    loss = AggregateLoss(nll)
    Model(probs.parents[0], nll.parents[1], loss, probs).save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors")["nll"].class_weights == [3, 2, 1]


def test_targets_of_nothing_have_no_gradient_either() -> None:
    probs = scores(2, 4)
    for nll in (
        MultinoulliNLL(probs, Input_like(probs, name="t"), weakness=0.5, label_smoothing=0.1),
        FocalNLL(probs, Input_like(probs, name="t")),
    ):
        x = torch.randn(1, 2, 4, requires_grad=True)
        loss = nll.operation(probs.operation(x), torch.full((1, 2, 4), -1.0)).mean()
        loss.backward()
        assert loss == 0
        assert x.grad is not None
        assert torch.equal(x.grad, torch.zeros_like(x))


def test_one_hot() -> None:
    node = OneHot(Input((2, 1, 3), "b,f,x", dtype="int64", name="ids"), 3)
    labels = np.array([[[0, 2, -1]], [[1, 3, 0]]])
    assert node.shape.text == "[(2,b), (3,f), (3,x)]"
    assert np.array_equal(node(labels), one_hot(labels, 3))
    on_x = OneHot(Input((2, 3, 1), "b,f,x", dtype="int64", name="ids"), 4, axis="x")
    assert on_x.shape.text == "[(2,b), (3,f), (4,x)]"
    assert np.array_equal(on_x(labels.transpose(0, 2, 1)), np.eye(5)[labels.transpose(0, 2, 1)[..., 0]][..., :4])
    with pytest.raises(ShapeError, match="size 1 on axis f"):
        OneHot(Input((2, 2), "b,f"), 3)
    with pytest.raises(ShapeError, match="no axis 'z'"):
        OneHot(Input((2, 1), "b,f"), 3, "z")
    with pytest.raises(ModelError, match="whole number from 1"):
        OneHot(Input((2, 1), "b,f"), 0)


def test_bad_input() -> None:
    probs = scores()
    with pytest.raises(ModelError, match="label_smoothing"):
        MultinoulliNLL(probs, ids(probs), True, label_smoothing=2)
    with pytest.raises(ModelError, match=r"blocking_factor.*to 1"):
        BlockedMultinoulliNLL(probs, ids(probs), 2, True)
    with pytest.raises(ModelError, match="neither a Softmax nor a sigmoid"):
        FocalNLL(probs.parents[0], ids(probs), True)
    with pytest.raises(ShapeError, match="size 1 on axis f"):
        FocalNLL(probs, Input_like(probs, name="t"), True)
    with pytest.raises(ModelError, match="3 numbers"):
        FocalNLL(probs, ids(probs), True, class_weights=[1, 2])
    with pytest.raises(ShapeError, match="example_weights"):
        FocalNLL(probs, ids(probs), True, example_weights=Input((None, 4), "b,x"))
