"""Sums and products, values, other axes, random variables, local normalisation."""

from __future__ import annotations

from elektronn_tui.models import (
    LRN,
    Add,
    Concat,
    Conv,
    FaithlessMerge,
    GaussianAEVBPrior,
    GaussianRV,
    InitialState_like,
    Input,
    MultMerge,
    Node,
    Pad,
    Perceptron,
    Reshape,
    StereographicMap,
    TaggedShape,
    ValueNode,
)

from .example import NodeExample


def image(n_f: int = 2) -> Input:
    """Return a smaller source than others need: these nodes have no filters."""
    return Input((2, n_f, 2, 3), "b,f,y,x", name="raw")


def three() -> tuple[Node, Node, Node]:
    raw = image()
    return raw, Conv(raw, 2, (1, 1), activation_func="tanh"), Conv(raw, 2, (1, 1), activation_func="lin")


def pair(n_f: int = 2) -> tuple[Node, Node]:
    raw = Input((3, 4), "b,f", name="raw")
    return Perceptron(raw, n_f, "lin"), Perceptron(raw, n_f, "tanh")


def times_value(**arguments: object) -> Node:
    return MultMerge(image(), ValueNode((2, 2, 2, 3), "b,f,y,x", **arguments))  # type: ignore[arg-type]


def shared_value() -> Node:
    own = ValueNode((2, 2, 2, 3), "b,f,y,x", apply_train=True, value=[2.0, -3.0])
    return Add(MultMerge(image(), own), ValueNode((2, 2, 2, 3), "b,f,y,x", value=own.value))


EXAMPLES: dict[str, NodeExample] = {
    "add three": NodeExample(lambda: Add(three())),
    "product": NodeExample(lambda: MultMerge(*three()[:2])),
    "product of three": NodeExample(lambda: MultMerge(three())),
    "concat space": NodeExample(lambda: Concat(three(), axis="y")),
    "faithless": NodeExample(lambda: FaithlessMerge(*three()[:2], failing_prob=0.7, hardeasy_ratio=0.3)),
    "pad": NodeExample(lambda: Pad(Input((1, 1, 2, 3, 2), "b,f,z,y,x", name="raw"), (0, 2, 1), 0.5)),
    "pad other axes": NodeExample(lambda: Pad(Input((3, 2, 4, 2), "x,b,y,f", name="raw"), (1, 2))),
    "reshape": NodeExample(lambda: Reshape(image(), (2, 12), "b,f")),
    "reshape free batch": NodeExample(lambda: Reshape(Input((None, 12), "b,f", name="raw"), (None, 3, 4), "b,f,x")),
    "reshape tagged": NodeExample(
        lambda: Reshape(image(), TaggedShape((None, 1, 2, 2, 3), "b,s,f,y,x", (2, 2), None, (5, 7)))
    ),
    "reshape geometry": NodeExample(lambda: Reshape(image(), (2, 1, 2, 2, 3), "b,s,f,y,x", (2, 4), (5, 7))),
    "value trained": NodeExample(lambda: times_value(apply_train=True, init_kwargs={"scale": 0.5}), own_shape=True),
    "value constant": NodeExample(lambda: times_value(value=[2.0, -3.0]), own_shape=True),
    "value forced constant": NodeExample(
        lambda: times_value(apply_train=True, value=[[0.5, -3.0], "const"]), own_shape=True
    ),
    "value shared": NodeExample(lambda: shared_value(), own_shape=True),
    "initial state": NodeExample(
        lambda: Concat([(raw := image()), InitialState_like(raw, 3, init_kwargs={"mode": "fix-uni", "scale": 0.1})])
    ),
    "lrn spatial": NodeExample(lambda: LRN(Input((1, 1, 2, 3, 4), "b,f,z,y,x", name="raw"), (1, 3, 3), alpha=0.5)),
    "lrn 2d": NodeExample(lambda: LRN(image(), (3, 5), alpha=0.5)),
    "lrn 1d": NodeExample(lambda: LRN(Input((2, 2, 7), "b,f,x", name="raw"), (3,), alpha=0.5)),
    "lrn channel": NodeExample(lambda: LRN(image(5), 3, mode="channel", alpha=0.5, k=2, beta=0.5)),
    "gaussian": NodeExample(lambda: GaussianRV(*pair()), deterministic=False),
    "gaussian samples": NodeExample(lambda: GaussianRV(*pair(), n_samples=5), deterministic=False),
    "prior": NodeExample(lambda: GaussianAEVBPrior(*pair())),
    "prior samples": NodeExample(lambda: GaussianRV(*pair(), n_samples=5).make_priorlayer()),
    "stereographic": NodeExample(lambda: StereographicMap(pair(3)[0])),
    "stereographic image": NodeExample(lambda: StereographicMap(image(3))),
}
