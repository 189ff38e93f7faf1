"""The MALIS loss against its formula, and its gradient with the counts held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from elektronn_tui.data import malis
from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import AggregateLoss, Conv, Input, MalisNLL, Model, Softmax, load_model

EPS = 1e-5
NHOOD = malis.mknhood3d()


def graph(size: tuple[int, ...] = (2, 4, 5), batch: int | None = None) -> tuple[Softmax, Input, Input]:
    tags = "b,f," + ",".join("zyx"[3 - len(size) :])
    edges = len(size)
    probs = Softmax(Input((batch, 2 * edges, *size), tags, name="raw"), n_indep=edges)
    aff = Input((batch, edges, *size), tags, dtype="int16", name="aff")
    return probs, aff, Input((batch, 1, *size), tags, dtype="int64", name="seg")


def data(size: tuple[int, ...] = (2, 4, 5), batch: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores, affinities, ids; and the probabilities (b, E, 2, ...)."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, (batch, 1, *size))
    aff = np.stack([malis.seg_to_affgraph(s[0], NHOOD) for s in ids])
    x = rng.normal(size=(batch, 6, *size))
    e = np.exp(x.reshape(batch, 3, 2, *size))
    return x, aff, ids, e / e.sum(2, keepdims=True)


@pytest.mark.parametrize("unrestrict_neg", [True, False])
def test_loss_and_scores(unrestrict_neg: bool) -> None:
    x, aff, ids, p = data()
    probs, aff_gt, seg_gt = graph()
    weights = Input((None, 2, 4, 5), "b,z,y,x", name="e")
    node = MalisNLL(probs, aff_gt, seg_gt, NHOOD, unrestrict_neg, [1, 2, 0.5], weights)
    assert node.scores == {}
    e = np.random.default_rng(1).random((2, 2, 4, 5))
    means, splits, merges, n_pos, n_neg = [], 0, 0, 0, 0
    for b in range(2):
        connected = p[b, :, 1].astype(np.float32)
        pos, neg = (c.astype(float) for c in malis.malis_weights(connected, aff[b], ids[b, 0], NHOOD, unrestrict_neg))
        terms = -(pos * np.log(p[b, :, 1] + EPS) + neg * np.log(p[b, :, 0] + EPS))
        terms = terms * np.array([1, 2, 0.5]).reshape(3, 1, 1, 1) * e[b]
        means.append(terms.sum() / (pos.sum() + neg.sum()))
        splits, merges = splits + pos[connected < 0.5].sum(), merges + neg[connected > 0.5].sum()
        n_pos, n_neg = n_pos + pos.sum(), n_neg + neg.sum()
    value = node(x, aff, ids, e)
    assert value.shape == (2, 1, 2, 4, 5)
    assert AggregateLoss(node)(x, aff, ids, e)[0] == pytest.approx(np.mean(means), rel=1e-4)
    assert (node.false_splits, node.false_merges) == (splits, merges)
    assert (node.pos_count, node.neg_count) == (n_pos, n_neg)
    assert node.rand_index == pytest.approx((splits + merges) / (n_pos + n_neg))
    assert set(node.scores) == {"false_splits", "false_merges", "rand_index", "pos_count", "neg_count"}


def test_gradient_is_that_of_the_formula_with_counts_held() -> None:
    _, aff, ids, p = data(batch=1)
    node = MalisNLL(*graph(batch=1), NHOOD)
    pred = torch.tensor(p.reshape(1, 6, 2, 4, 5), requires_grad=True)
    node.operation(pred, torch.tensor(aff), torch.tensor(ids)).mean().backward()
    pos, neg = (c.astype(float) for c in malis.malis_weights(p[0, :, 1], aff[0], ids[0, 0], NHOOD, True))
    expected = np.stack([-neg / (p[0, :, 0] + EPS), -pos / (p[0, :, 1] + EPS)], 1) / (pos.sum() + neg.sum())
    assert pred.grad is not None
    assert pred.grad.reshape(3, 2, 2, 4, 5).numpy() == pytest.approx(expected, rel=1e-6)


def test_two_dimensions() -> None:
    rng = np.random.default_rng(3)
    nhood = malis.mknhood2d()
    ids = rng.integers(0, 3, (1, 1, 4, 5))
    nhood3d = np.insert(nhood, 0, 0, axis=1)
    aff = malis.seg_to_affgraph(ids[0], nhood3d)[None, :, 0]
    x = rng.normal(size=(1, 4, 4, 5))
    node = MalisNLL(*graph((4, 5)), nhood)
    flat = AggregateLoss(node)(x, aff, ids)
    probs = Softmax(Input((1, 4, 1, 4, 5), "b,f,z,y,x"), n_indep=2)
    volume = MalisNLL(
        probs, Input((1, 2, 1, 4, 5), "b,f,z,y,x"), Input((1, 1, 1, 4, 5), "b,f,z,y,x", dtype="int64"), nhood3d
    )
    assert flat == pytest.approx(AggregateLoss(volume)(x[:, :, None], aff[:, :, None], ids[:, :, None]), rel=1e-6)


def test_offsets_from_a_node_and_nothing_labelled() -> None:
    x, aff, ids, _ = data(batch=1)
    probs, aff_gt, seg_gt = graph()
    nhood = Input((3, 3), "b,f", dtype="int64", name="nhood")
    given = MalisNLL(probs, aff_gt, seg_gt, nhood)
    fixed = MalisNLL(probs, aff_gt, seg_gt, NHOOD)
    assert given(x, aff, ids, NHOOD) == pytest.approx(fixed(x, aff, ids))
    assert not fixed(x, 0 * aff, 0 * ids).any()


def test_through_a_file_and_under_autocast(tmp_path: Path) -> None:
    raw = Input((1, 1, 4, 6, 7), "b,f,z,y,x", name="raw")
    probs = Softmax(Conv(raw, 6, (3, 3, 3), activation_func="lin"), n_indep=3)
    _, aff_gt, seg_gt = graph((2, 4, 5), 1)
    loss = AggregateLoss(MalisNLL(probs, aff_gt, seg_gt, NHOOD))
    model = Model(raw, aff_gt, loss, probs)
    _, aff, ids, _ = data(batch=1)
    feeds = {"raw": torch.rand(1, 1, 4, 6, 7), "aff": torch.tensor(aff), "seg": torch.tensor(ids)}
    with torch.autocast("cpu", torch.bfloat16):
        (value,) = model.compute([loss], feeds)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(model["conv"].w.grad).all()
    model.save(tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    (expected,), (found,) = model.compute([loss], feeds), again.compute([again.loss_node], feeds)
    assert torch.equal(expected, found)


def test_bad_input() -> None:
    probs, aff_gt, seg_gt = graph()
    with pytest.raises(ModelError, match="n_class=2"):
        MalisNLL(probs.parents[0], aff_gt, seg_gt, NHOOD)
    with pytest.raises(ModelError, match="n_class=2"):
        MalisNLL(Softmax(probs.parents[0], n_indep=2), aff_gt, seg_gt, NHOOD)
    with pytest.raises(ShapeError, match=r"nhood must be \(3, 3\)"):
        MalisNLL(probs, aff_gt, seg_gt, NHOOD[:2])
    with pytest.raises(ShapeError, match="size 3 on axis f"):
        MalisNLL(probs, seg_gt, seg_gt, NHOOD)
    with pytest.raises(ShapeError, match="size 1 on axis f"):
        MalisNLL(probs, aff_gt, aff_gt, NHOOD)
    with pytest.raises(ModelError, match="3 numbers"):
        MalisNLL(probs, aff_gt, seg_gt, NHOOD, class_weights=[1, 2])
