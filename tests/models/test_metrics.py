from __future__ import annotations

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    Classification,
    ClassScores,
    ConfusionMatrix,
    Errors,
    Input,
    Input_like,
    Node,
    Perceptron,
    Softmax,
)
from elektronn_tui.models.confusion import confusion


def scores(n_f: int = 3, size: int = 9, n_indep: int = 1) -> Softmax:
    return Softmax(Input((None, n_f, size), "b,f,x", name="raw"), n_indep=n_indep)


def ids(probs: Node, n: int = 1) -> Input:
    return Input_like(probs, override_f=n, dtype="int64", name="target")


def test_classification() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 9))
    node = Classification(scores(6, 9, 2))
    assert (node.shape["f"], node.dtype) == (2, "int64")
    assert np.array_equal(node(x), x.reshape(2, 2, 3, 9).argmax(2))
    sigmoid = Perceptron(Input((None, 3), "b,f", name="raw"), 3, "sig", w=np.eye(3), b=np.zeros(3))
    assert np.array_equal(Classification(sigmoid)(x[0, :3, :].T), x[0, :3].T > 0)
    raw = Input((None, 4), "b,f", name="raw")
    assert np.array_equal(Classification(raw, 2, 2)([[1.0, 2, 4, 3]]), [[1, 0]])
    with pytest.raises(ModelError, match="n_class and n_indep must be given"):
        Classification(raw)
    with pytest.raises(ShapeError, match="3 × 2 classes don't fit"):
        Classification(raw, 2, 3)


@pytest.mark.parametrize("sparse", [True, False])
def test_confusion_matrix_and_scores(sparse: bool) -> None:
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(2, 6, 9)), rng.integers(-1, 4, (2, 2, 9))
    labels[:, 1] = np.minimum(labels[:, 1], 1)  # class 2 never occurs in the second group
    probs = scores(6, 9, 2)
    target = ids(probs, 2) if sparse else Input_like(probs, name="t")
    t = labels if sparse else (labels[:, :, None] == np.arange(3)[:, None]).reshape(2, 6, 9).astype(float)
    node = ConfusionMatrix(probs, target, sparse)
    found = x.reshape(2, 2, 3, 9).argmax(2)
    expected = np.zeros((2, 2, 3, 3), int)
    for b, g, i in np.ndindex(2, 2, 9):
        if 0 <= labels[b, g, i] < 3:
            expected[b, g, labels[b, g, i], found[b, g, i]] += 1
    values = node(x, t)
    assert values.dtype == np.int64
    assert np.array_equal(values, expected.reshape(2, 18))
    groups = node.confusions(values)
    assert [c.counts.tolist() for c in groups] == expected.sum(0).tolist()
    known = (labels >= 0) & (labels < 3)
    for score in ("iou", "dice", "precision", "recall"):
        result = ClassScores(probs, target, score, sparse)(x, t).reshape(2, 3)
        for g, c in np.ndindex(2, 3):
            true = (labels[:, g] == c)[known[:, g]]
            chosen = (found[:, g] == c)[known[:, g]]
            both = (true & chosen).sum()
            whole = {
                "iou": (true | chosen).sum(),
                "dice": (true.sum() + chosen.sum()) / 2,
                "precision": chosen.sum(),
                "recall": true.sum(),
            }[score]
            wanted = both / whole if whole else np.nan
            assert result[g, c] == pytest.approx(wanted, nan_ok=True)
            assert groups[g].score(score)[c] == pytest.approx(wanted, nan_ok=True)
    with pytest.raises(ModelError, match="Did you mean"):
        ClassScores(probs, target, "precison", sparse)


def test_confusion_of_sigmoids_leaves_out_what_is_unlabelled() -> None:
    probs = Perceptron(Input((None, 2), "b,f", name="raw"), 2, "sig", w=np.eye(2), b=np.zeros(2))
    node = ConfusionMatrix(probs, Input_like(probs, name="t"))
    values = node([[1.0, -1], [-1, 2], [1, 1]], [[1.0, -1], [1, 0], [np.nan, 1]])
    first, second = node.confusions(values)
    assert first.counts.tolist() == [[0, 0], [1, 1]]
    assert second.counts.tolist() == [[0, 1], [0, 1]]


def test_ids_beyond_the_classes_are_ignored_by_the_function() -> None:
    prediction = torch.tensor([[[1.0, 0, 0], [0, 1, 1]]])
    assert confusion(prediction, torch.tensor([[[0, 7, 1]]])).tolist() == [[1, 0], [0, 1]]


def test_errors_over_time_and_with_everything_unlabelled() -> None:
    probs = Softmax(Input((3, 2, 2), "r,b,f", name="raw"))
    errors = Errors(probs, Input((3, 2, 1), "r,b,f", dtype="int64", name="t"), True)
    x = np.zeros((3, 2, 2))
    x[..., 1] = 1
    labels = np.array([[[1], [0]], [[-1], [1]], [[1], [1]]])
    assert errors(x, labels)[0] == pytest.approx(1 / 5)
    assert errors(x, np.full_like(labels, -1))[0] == 0
