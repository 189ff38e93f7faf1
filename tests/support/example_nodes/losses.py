"""Class probabilities, losses and errors."""

from __future__ import annotations

from elektronn_tui.models import AggregateLoss, Errors, Input, Input_like, MultinoulliNLL, Node, Softmax

from .example import NodeExample, image


def nll(n_indep: int = 1, weakness: float = 0) -> MultinoulliNLL:
    probs = Softmax(Input((2, 4, 3), "b,f,x", name="raw"), n_indep=n_indep)
    target = Input_like(probs, override_f=n_indep, dtype="int64", name="target")
    return MultinoulliNLL(probs, target, True, class_weights=[1, 2, 0.5, 3], weakness=weakness)


def errors() -> Node:
    probs = Softmax(image(3))
    return Errors(probs, Input_like(probs, override_f=1, dtype="int64", name="target"), target_is_sparse=True)


EXAMPLES: dict[str, NodeExample] = {
    "softmax": NodeExample(lambda: Softmax(image())),
    "softmax groups": NodeExample(lambda: Softmax(image(6), n_indep=3)),
    "nll": NodeExample(lambda: nll()),
    "nll groups": NodeExample(lambda: nll(2)),
    "nll weakness": NodeExample(lambda: nll(1, 0.3)),
    "nll weakness groups": NodeExample(lambda: nll(2, 0.3)),
    "aggregate": NodeExample(lambda: AggregateLoss([(loss := nll()), loss], [0.5, 2])),
    "errors": NodeExample(errors, differentiable=False),
}
