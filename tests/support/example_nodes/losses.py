"""Class probabilities, losses of classes, and what is measured of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from elektronn_tui.models import (
    AggregateLoss,
    BlockedMultinoulliNLL,
    Classification,
    ClassScores,
    ConfusionMatrix,
    Errors,
    FocalNLL,
    Input,
    Input_like,
    MultinoulliNLL,
    Node,
    OneHot,
    Perceptron,
    Softmax,
)

from .example import NodeExample, image


def probabilities(n_indep: int = 1) -> Softmax:
    return Softmax(Input((2, 4, 3), "b,f,x", name="raw"), n_indep=n_indep)


def ids(probs: Node, n_indep: int = 1) -> Input:
    return Input_like(probs, override_f=n_indep, dtype="int64", name="target")


def nll(n_indep: int = 1, **options: Any) -> MultinoulliNLL:
    probs = probabilities(n_indep)
    return MultinoulliNLL(probs, ids(probs, n_indep), True, class_weights=[1, 2, 0.5, 3], **options)


def nll_with_everything() -> MultinoulliNLL:
    probs = probabilities(2)
    labelled, absent = (Input((2, 4), "b,f", name=name) for name in ("labelled", "absent"))
    weights = Input((2, 3), "b,x", name="weights")
    classes = Input((4,), "f", name="classes")
    target = Input_like(probs, name="target")
    return MultinoulliNLL(probs, target, False, classes, weights, 0.2, labelled, absent, label_smoothing=0.1)


def positive(rng: np.random.Generator, node: Node) -> list[np.ndarray]:
    raw, *others = [tuple(1 if n is None else n for n in source.shape.shape) for source in node.input_nodes]
    return [rng.normal(size=raw), *(rng.random(size) for size in others)]


def over_time() -> Node:
    probs = Softmax(Input((3, 2, 4), "r,b,f", name="raw"))
    return MultinoulliNLL(probs, Input((3, 2, 1), "r,b,f", dtype="int64", name="target"), True)


def one_hot() -> Node:
    return OneHot(Input((2, 1, 3, 4), "b,f,y,x", name="raw"), 3)


def focal(sigmoid: bool = False) -> Node:
    if not sigmoid:
        probs = probabilities(2)
        return FocalNLL(probs, ids(probs, 2), True, 1.5, [1, 2, 0.5, 3])
    probs = Perceptron(Input((2, 2, 3), "b,f,x", name="raw"), 2, "sig")
    return FocalNLL(probs, Input_like(probs, name="target"), example_weights=Input((2, 3), "b,x", name="weights"))


def metric(cls: type[Node], n_indep: int = 1) -> Node:
    probs = Softmax(image(3 * n_indep), n_indep=n_indep)
    return cls(probs, ids(probs, n_indep), target_is_sparse=True)


def sigmoid_errors() -> Node:
    probs = Perceptron(image(), 2, "sig")
    return Errors(probs, Input_like(probs, name="target"))


EXAMPLES: dict[str, NodeExample] = {
    "softmax": NodeExample(lambda: Softmax(image())),
    "softmax groups": NodeExample(lambda: Softmax(image(6), n_indep=3)),
    "one-hot": NodeExample(one_hot, differentiable=False),
    "nll": NodeExample(lambda: nll()),
    "nll groups": NodeExample(lambda: nll(2)),
    "nll weakness": NodeExample(lambda: nll(1, weakness=0.3)),
    "nll weakness groups": NodeExample(lambda: nll(2, weakness=0.3)),
    "nll smoothing": NodeExample(lambda: nll(1, label_smoothing=0.2)),
    "nll with everything": NodeExample(nll_with_everything, arrays=positive),
    "nll over time": NodeExample(over_time),
    # So small a factor blocks nothing: what is blocked has a gradient of its own by design, see test_nll.py.
    "blocked nll": NodeExample(
        lambda: BlockedMultinoulliNLL((probs := probabilities()), ids(probs), 0.01, True),
    ),
    "focal": NodeExample(lambda: focal()),
    "focal sigmoid": NodeExample(lambda: focal(sigmoid=True), arrays=positive),
    "aggregate": NodeExample(lambda: AggregateLoss([(loss := nll()), loss], [0.5, 2])),
    "classification": NodeExample(lambda: Classification(Softmax(image(3))), differentiable=False),
    "errors": NodeExample(lambda: metric(Errors), differentiable=False),
    "errors groups": NodeExample(lambda: metric(Errors, 2), differentiable=False),
    "errors sigmoid": NodeExample(sigmoid_errors, differentiable=False),
    "confusion": NodeExample(lambda: metric(ConfusionMatrix), differentiable=False),
    "confusion groups": NodeExample(lambda: metric(ConfusionMatrix, 2), differentiable=False),
    "scores": NodeExample(lambda: metric(ClassScores), differentiable=False),
}
