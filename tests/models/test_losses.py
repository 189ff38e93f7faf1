from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    AggregateLoss,
    Conv,
    Errors,
    Input,
    Input_like,
    Model,
    MultinoulliNLL,
    Node,
    Perceptron,
    Softmax,
)

EPS = 1e-5


def scores(n_f: int = 2, size: int = 1) -> Softmax:
    return Softmax(Input((None, n_f, size), "b,f,x", name="raw"))


def ids(probs: Node, n: int = 1) -> Input:
    return Input_like(probs, override_f=n, dtype="int64", name="target")


def test_nll_of_a_labelled_and_an_unlabelled_example() -> None:
    probs = scores()
    loss = AggregateLoss(MultinoulliNLL(probs, ids(probs), target_is_sparse=True))
    p = np.array([[0.6, 0.4], [0.3, 0.7]])[..., None]
    value = loss(np.log(p), np.array([0, -1]).reshape(2, 1, 1))
    assert value.shape == (1,)
    assert value[0] == pytest.approx(0.510804, abs=1e-6)


def test_aggregate_weights_are_not_normalised() -> None:
    a, b = (Input((2, 1), "b,f", name=n) for n in "ab")
    loss = AggregateLoss([a, b], [1, 3])
    assert loss([[1.0], [3.0]], [[4.0], [4.0]]) == pytest.approx(7.0)
    loss.mixing_weights = [2, 0]
    assert loss([[1.0], [3.0]], [[4.0], [4.0]]) == pytest.approx(2.0)
    with pytest.raises(ModelError, match="a list of 2 numbers"):
        loss.mixing_weights = [1]
    assert loss.mixing_weights == [2, 0]


def by_hand(
    p: torch.Tensor, t: torch.Tensor, w: torch.Tensor, e: torch.Tensor | float, absent: torch.Tensor | None = None
) -> torch.Tensor:
    up = -(t * w * e * torch.log(p + EPS)).sum()
    n = t.sum()
    if absent is not None:
        up = up - (absent * w * e * torch.log(1 - p + EPS)).sum()
        n = n + absent.expand_as(p).sum()
    return up / (n + EPS)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4, 3, 5, generator=generator)
    labels = torch.randint(-1, 4, (4, 1, 5), generator=generator)  # 3 is no class either
    t = torch.stack([(labels[:, 0] == c) for c in range(3)], 1).float()
    return x, labels, t


@pytest.mark.parametrize("sparse", [True, False])
def test_nll_with_class_and_example_weights(batch: tuple[torch.Tensor, ...], sparse: bool) -> None:
    x, labels, t = batch
    probs = scores(3, 5)
    target = ids(probs) if sparse else Input_like(probs, name="target")
    weights = Input((None, 5), "b,x", name="weights")
    nll = MultinoulliNLL(probs, target, target_is_sparse=sparse, class_weights=[1.0, 2.0, 0.5], example_weights=weights)
    loss = AggregateLoss(nll)
    e = torch.rand(4, 5)
    value = loss(x, labels if sparse else t, e)
    w = torch.tensor([1.0, 2.0, 0.5]).reshape(3, 1)
    assert value == pytest.approx(float(by_hand(x.softmax(1), t, w, e[:, None])), rel=1e-5)
    nll.class_weights = None
    value = loss(x, labels if sparse else t, e)
    assert value == pytest.approx(float(by_hand(x.softmax(1), t, torch.ones(3, 1), e[:, None])), rel=1e-5)
    nll.class_weights = [0, 0, 1]
    only = t * torch.tensor([0.0, 0, 1]).reshape(3, 1)
    assert loss(x, labels if sparse else t, e)[0] == pytest.approx(
        float(-(only * e[:, None] * torch.log(x.softmax(1) + EPS)).sum() / (t.sum() + EPS)), rel=1e-5
    )
    with pytest.raises(ModelError, match="from 0"):
        nll.class_weights = [-1, 1, 1]


def test_nll_masks(batch: tuple[torch.Tensor, ...]) -> None:
    x, labels, t = batch
    probs = scores(3, 5)
    labelled = Input((None, 3), "b,f", name="labelled")
    absent = Input((None, 3), "b,f", name="absent")
    nll = MultinoulliNLL(
        probs, ids(probs), target_is_sparse=True, mask_class_labeled=labelled, mask_class_not_present=absent
    )
    m, n = torch.randint(0, 2, (4, 3)).float(), torch.randint(0, 2, (4, 3)).float()
    value = AggregateLoss(nll)(x, labels, m, n)
    expected = by_hand(x.softmax(1), t * m[..., None], torch.ones(3, 1), 1.0, n[..., None])
    assert value == pytest.approx(float(expected), rel=1e-5)


def test_weakness_pulls_the_target_to_the_prediction_where_labelled(batch: tuple[torch.Tensor, ...]) -> None:
    x, labels, t = batch
    probs = scores(3, 5)
    loss = AggregateLoss(MultinoulliNLL(probs, ids(probs), target_is_sparse=True, weakness=0.3))
    p = x.softmax(1)
    soft = 0.7 * t + 0.3 * p * t.sum(1, keepdim=True)
    assert loss(x, labels) == pytest.approx(float(by_hand(p, soft, torch.ones(3, 1), 1.0)), rel=1e-5)


def test_independent_groups() -> None:
    raw = Input((None, 6, 5), "b,f,x", name="raw")
    probs = Softmax(raw, n_indep=3)
    assert (probs.n_class, probs.n_indep) == (2, 3)
    x = torch.randn(2, 6, 5)
    p = probs(x)
    assert p == pytest.approx(x.reshape(2, 3, 2, 5).softmax(2).reshape(2, 6, 5).numpy(), abs=1e-6)
    target = ids(probs, 3)
    weights = [1.0, 2, 3, 4, 5, 6]
    loss = AggregateLoss(MultinoulliNLL(probs, target, target_is_sparse=True, class_weights=weights))
    labels = torch.randint(-1, 2, (2, 3, 5))
    t = torch.stack([labels[:, i // 2] == i % 2 for i in range(6)], 1).float()
    expected = by_hand(torch.from_numpy(p), t, torch.tensor(weights).reshape(6, 1), 1.0)
    assert loss(x, labels) == pytest.approx(float(expected), rel=1e-5)
    errors = Errors(probs, target, target_is_sparse=True)
    found = p.reshape(2, 3, 2, 5).argmax(2)
    labelled = labels.numpy() >= 0
    assert errors(x, labels) == pytest.approx((found != labels.numpy())[labelled].mean())


def test_nothing_labelled_is_no_loss_and_no_nan() -> None:
    probs = scores(2, 4)
    target = ids(probs)
    x, labels = np.zeros((1, 2, 4)), np.full((1, 1, 4), -1)
    assert AggregateLoss(MultinoulliNLL(probs, target, target_is_sparse=True))(x, labels)[0] == 0
    assert Errors(probs, target, target_is_sparse=True)(x, labels)[0] == 0


def test_nll_is_the_cross_entropy_of_torch() -> None:
    probs = scores(3, 50)
    loss = AggregateLoss(MultinoulliNLL(probs, ids(probs), target_is_sparse=True))
    x, labels = torch.randn(4, 3, 50), torch.randint(-1, 3, (4, 1, 50))
    expected = F.cross_entropy(x, labels[:, 0], ignore_index=-1)
    assert loss(x, labels) == pytest.approx(float(expected), rel=1e-3)  # EPS in the logarithm


def test_errors_leave_out_what_is_unlabelled() -> None:
    probs = scores(2, 4)
    x = np.array([[[5.0, 5, 0, 0], [0, 0, 5, 5]]])  # classes 0 0 1 1
    sparse = Errors(probs, ids(probs), target_is_sparse=True)
    assert sparse(x, [[[0, 1, -1, 1]]]) == pytest.approx(1 / 3)
    assert sparse(x, [[[0, 1, 7, 1]]]) == pytest.approx(1 / 3)
    dense = Errors(probs, Input_like(probs, name="t"))
    assert dense(x, [[[1.0, 0, 0, 0], [0, 1, 0, 1]]]) == pytest.approx(1 / 3)


def test_errors_of_sigmoids() -> None:
    raw = Input((None, 3), "b,f", name="raw")
    out = Perceptron(raw, 3, "sig", w=np.eye(3), b=np.zeros(3))
    errors = Errors(out, Input_like(out, name="t"))
    assert errors([[1.0, -1, -1]], [[1.0, 1, -1]]) == pytest.approx(0.5)


def test_losses_stay_in_float32_under_autocast() -> None:
    raw = Input((1, 1, 8, 8), "b,f,y,x", name="raw")
    probs = Softmax(Conv(raw, 2, (3, 3), activation_func="lin"))
    target = ids(probs)
    loss = AggregateLoss(MultinoulliNLL(probs, target, target_is_sparse=True))
    model = Model(raw, target, loss, probs)
    feeds = {"raw": torch.rand(1, 1, 8, 8), "target": torch.randint(0, 2, (1, 1, 6, 6))}
    with torch.autocast("cpu", torch.bfloat16):
        values = model.compute([model["conv"], probs, model["nll"], loss], feeds)
    assert [v.dtype for v in values] == [torch.bfloat16, torch.float32, torch.float32, torch.float32]
    values[-1].backward()
    assert model["conv"].w.grad.dtype == torch.float32


def test_misfits() -> None:
    probs = scores(2, 4)
    (raw,) = probs.parents
    with pytest.raises(ModelError, match="needs the output of a Softmax"):
        MultinoulliNLL(raw, ids(probs))
    with pytest.raises(ShapeError, match="size 4 on axis x"):
        MultinoulliNLL(probs, Input((None, 1, 5), "b,f,x", dtype="int64"), target_is_sparse=True)
    with pytest.raises(ShapeError, match="size 1 on axis f"):
        MultinoulliNLL(probs, Input_like(probs, dtype="int64"), target_is_sparse=True)
    with pytest.raises(ShapeError, match="size 2 on axis f"):
        MultinoulliNLL(probs, ids(probs))
    with pytest.raises(ModelError, match=r"nll.*: class_weights: .*3 entries; allowed is a list of 2"):
        MultinoulliNLL(probs, ids(probs), True, class_weights=[1, 2, 3])
    with pytest.raises(ModelError, match=r"class_weights: .*0 everywhere; .* not all 0 or None"):
        MultinoulliNLL(probs, ids(probs), True, class_weights=[0, 0])
    with pytest.raises(ModelError, match="needs 2 classes at least"):
        MultinoulliNLL(scores(1, 4), ids(scores(1, 4)), True)
    with pytest.raises(ShapeError, match="example_weights must have the shape"):
        MultinoulliNLL(probs, ids(probs), True, example_weights=Input((None, 3), "b,x"))
    with pytest.raises(ModelError, match="weakness"):
        MultinoulliNLL(probs, ids(probs), True, weakness=1.5)
    with pytest.raises(ModelError, match="has the activation 'relu'"):
        Softmax(Perceptron(raw, 2))
    with pytest.raises(ShapeError, match="don't divide into 3 groups"):
        Softmax(raw, n_indep=3)
    with pytest.raises(ModelError, match=r"total_loss.*: mixing_weights: .*1 entries; allowed is a list of 2"):
        AggregateLoss([raw, probs], [1.0])
    with pytest.raises(ModelError, match="mixing_weights: 'a' is no number"):
        AggregateLoss([raw], ["a"])
    with pytest.raises(ModelError, match="mixing_weights: 3 is no list"):
        AggregateLoss([raw], 3)
    with pytest.raises(ModelError, match="neither a Softmax nor a sigmoid"):
        Errors(raw, ids(probs))
