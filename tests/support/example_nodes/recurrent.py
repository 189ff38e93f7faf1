"""Pieces of nodes, recurrent cells and recurrences."""

from __future__ import annotations

import numpy as np

from elektronn_tui.models import GRU, LSTM, Concat, Input, Node, Perceptron, split

from .example import NodeExample, image


def sequence(length: int = 4) -> Input:
    """Return a source of sequences of two examples with three features."""
    return Input((length, 2, 3), "r,b,f", name="raw")


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
}
