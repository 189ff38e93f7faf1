"""Pieces of nodes, recurrent cells and recurrences."""

from __future__ import annotations

import numpy as np

from elektronn_tui.models import GRU, LSTM, Add, Concat, Conv, Input, Node, Perceptron, Scan, split

from .example import NodeExample, image


def sequence() -> Input:
    """Return a source of sequences of three times, two examples and two features."""
    return Input((3, 2, 2), "r,b,f", name="raw")


def cell(kind: type[GRU] | type[LSTM], **arguments: object) -> Node:
    """Return a cell that gets its memory from outside."""
    n_f = 2 if kind is GRU else 4
    return kind(Input((2, 3), "b,f", name="raw"), Input((2, n_f), "b,f", name="memory"), 2, **arguments)  # type: ignore[arg-type]


def cell_of_images(kind: type[GRU] | type[LSTM]) -> Node:
    """Return a cell at every pixel whose memory is one vector for all of them."""
    memory = Input((2 if kind is GRU else 4,), "f", name="memory")
    return kind(Input((2, 3, 2, 2), "b,f,y,x", name="raw"), memory, 2)


def constant_gru() -> Node:
    """Return a cell with weights that are not trained."""
    rng = np.random.default_rng(3)
    return cell(GRU, w=[rng.normal(size=(5, 6)), "const"], b=[rng.normal(size=6), "const"])


def recurrence(**arguments: object) -> Node:
    """Return a GRU over a sequence; its first memory is made from the first slice, a bias from outside."""
    raw = sequence()
    first = split(raw, "r", index=1, strip_singleton_dims=True)[0]
    start = Perceptron(first, 2, "tanh", name="start")
    gru = GRU(Concat([first, Input((2, 1), "b,f", name="outside")]), start, 2)
    return Scan(gru, start, in_iterate=raw, in_iterate_0=first, **arguments)  # type: ignore[arg-type, return-value]


def recurrence_of_two() -> Node:
    """Return what comes of two results, of which the second, normalised by batch, is fed back; two sequences."""
    raw, more = sequence(), Input((3, 2, 1), "r,b,f", name="more")
    a, b = (split(x, "r", index=1, strip_singleton_dims=True)[0] for x in (raw, more))
    start = Input((2, 2), "b,f", name="start")
    fed = Perceptron(Concat([a, start]), 2, "tanh", batch_normalisation="train", name="fed")
    out = Perceptron(Concat([fed, b]), 2, "sig", name="out")
    outs, feds = Scan([out, fed], start, fed, [raw, more], [a, b], unroll_scan=False)  # type: ignore[misc]
    return Add(outs, feds)


def recurrent_convolution(**arguments: object) -> Node:
    """Return what three equal layers make, as a recurrence without a sequence."""
    raw = Input((1, 1, 4, 4), "b,f,y,x", name="raw")
    return Scan(Conv(raw, 1, (3, 3), conv_mode="same", activation_func="tanh"), raw, n_steps=3, **arguments)  # type: ignore[arg-type, return-value]


EXAMPLES: dict[str, NodeExample] = {
    "split": NodeExample(lambda: Concat(split(image(3), "f", index=1)[::-1])),
    "split stripped": NodeExample(lambda: split(sequence(), "r", index=1, strip_singleton_dims=True)[0]),
    "split image": NodeExample(lambda: split(image(), "y", index=[1, 4])[1]),
    "split equal": NodeExample(lambda: split(image(), "y", n_out=3)[2]),
    "gru": NodeExample(lambda: cell(GRU)),
    "gru of a layer": NodeExample(lambda: GRU((raw := image()), Perceptron(raw, 3, "tanh"), 3, "sig")),
    "gru constant": NodeExample(constant_gru),
    "gru image": NodeExample(lambda: cell_of_images(GRU)),
    "lstm": NodeExample(lambda: cell(LSTM)),
    "lstm image": NodeExample(lambda: cell_of_images(LSTM)),
    "lstm lin": NodeExample(lambda: cell(LSTM, activation_func="lin", b=np.linspace(-1, 1, 8))),
    "scan": NodeExample(recurrence),
    "scan last": NodeExample(lambda: recurrence(last_only=True)),
    "scan forgetful": NodeExample(lambda: recurrence(unroll_scan=False)),
    "scan of two": NodeExample(recurrence_of_two),
    "scan convolution": NodeExample(recurrent_convolution),
    "scan convolution last": NodeExample(lambda: recurrent_convolution(last_only=True)),
}
