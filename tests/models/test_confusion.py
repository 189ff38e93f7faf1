import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from elektronn_tui.models.confusion import Confusion, confusion


def counted(prediction, target):
    scores = torch.nn.functional.one_hot(torch.tensor(prediction), 3).movedim(-1, 1).float()
    return Confusion(confusion(scores, torch.tensor(target)[:, None]).numpy())


def test_hand_counted_example():
    target = np.array([[0, 0, 0, 0, 1, 1, -1, 2]])
    prediction = np.array([[0, 0, 0, 1, 1, 0, 2, 2]])
    found = counted(prediction, target)
    assert found.counts.tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert found.total == 7
    assert found.error == pytest.approx(2 / 7)
    assert found.recall == pytest.approx([3 / 4, 1 / 2, 1])
    assert found.precision == pytest.approx([3 / 4, 1 / 2, 1])
    assert found.iou == pytest.approx([3 / 5, 1 / 3, 1])
    assert found.balanced_error == pytest.approx(1 - (0.75 + 0.5 + 1) / 3)


labels = hnp.arrays(np.int64, st.tuples(st.integers(1, 2), st.integers(1, 40)), elements=st.integers(-1, 2))


@given(labels, st.randoms(use_true_random=False))
def test_equals_brute_force(target, random):
    prediction = np.array([random.randrange(3) for _ in range(target.size)]).reshape(target.shape)
    found = counted(prediction, target)
    valid = target >= 0
    for true in range(3):
        for chosen in range(3):
            assert found.counts[true, chosen] == ((target == true) & (prediction == chosen) & valid).sum()
    if valid.any():
        assert found.error == pytest.approx((prediction != target)[valid].mean())
        for k in np.unique(target[valid]):
            union = ((target == k) | (prediction == k)) & valid
            assert found.iou[k] == pytest.approx(((target == k) & (prediction == k)).sum() / union.sum())


def test_saying_never_is_a_small_error_and_a_large_balanced_one():
    target = np.zeros((1, 100), int)
    target[0, :12] = 1
    scores = torch.zeros(1, 2, 100)
    scores[:, 0] = 1
    metrics = Confusion(confusion(scores, torch.tensor(target)[:, None]).numpy()).metrics()
    assert metrics["valid_error"] == pytest.approx(0.12)
    assert metrics["valid_balanced_error"] == 0.5
    assert metrics["valid_iou"] == 0


def test_classes_that_never_occur_are_left_out():
    found = Confusion(np.array([[5, 0], [0, 0]]))
    assert np.isnan(found.recall[1])
    assert found.balanced_error == 0.0
    empty = Confusion(np.zeros((2, 2), int))
    assert np.isnan(empty.balanced_error)
    assert np.isnan(empty.error)


def test_a_batch_without_a_class_has_no_balanced_error():
    assert Confusion(np.array([[5, 0], [0, 0]])).errors() == {"error": 0.0}
    assert Confusion(np.array([[3, 1], [1, 1]])).errors() == pytest.approx({"error": 1 / 3, "balanced_error": 0.375})


def test_many_classes_are_measured_each():
    metrics = Confusion(np.diag([1, 2, 3])).metrics("")
    assert metrics["iou"] == metrics["iou_2"] == metrics["recall_0"] == 1.0
