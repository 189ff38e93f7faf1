"""Losses of regressions, distances, likelihoods of numbers and overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from elektronn_tui.models import (
    AbsLoss,
    BCEDiceLoss,
    BetaNLL,
    BinaryNLL,
    Conv,
    DiceLoss,
    EuclideanDistance,
    GaussianNLL,
    Input,
    Input_like,
    LovaszLoss,
    MalisNLL,
    Node,
    Perceptron,
    RampLoss,
    SobelizedLoss,
    Softmax,
    SquaredLoss,
    TverskyLoss,
)

from .example import NodeExample


def image(n_f: int = 2) -> Input:
    """Return a source that is small, as every one of its numbers is moved by itself to check gradients."""
    return Input((2, n_f, 2, 3), "b,f,y,x", name="raw")


def volume() -> Input:
    return Input((1, 2, 2, 2, 3), "b,f,z,y,x", name="raw")


def uniform(rng: np.random.Generator, node: Node) -> list[np.ndarray]:
    """Raw values, and everything else from 0 to 1, some of it unknown."""
    raw, *others = [tuple(1 if n is None else n for n in source.shape.shape) for source in node.input_nodes]
    arrays = [rng.random(size) for size in others]
    for array in arrays[:1]:
        array[rng.random(array.shape) < 0.2] = -666
        array.flat[0] = np.nan
    return [rng.normal(size=raw), *arrays]


def regression(cls: Any, **options: Any) -> Node:
    raw = image()
    pred = Conv(raw, 2, (1, 1), activation_func="lin")
    return cls(pred, Input_like(pred, name="target"), **options)


def difference_1d() -> Node:
    pred = Perceptron(Input((3, 4), "b,f", name="raw"), 2, "lin")
    return SquaredLoss(pred, Input_like(pred, name="target"))


def gradients(tags: str) -> Node:
    sizes = {"x": (2, 2, 4), "y,x": (1, 2, 3, 4), "z,y,x": (1, 1, 3, 2, 3)}[tags]
    raw = Input(sizes, f"b,f,{tags}", name="raw")
    return SobelizedLoss(raw, Input_like(raw, name="target"))


def ramp() -> Node:
    raw = image()
    return RampLoss(raw, Input_like(raw, name="big"), margin=0.3)


def sigmoid(raw: Node) -> Perceptron:
    return Perceptron(raw, 2, "sig")


def binary(**options: Any) -> Node:
    probs = sigmoid(image())
    return BinaryNLL(probs, Input_like(probs, name="target"), **options)


def with_samples(cls: Any, second: str) -> Node:
    raw = Input((2, 2, 3, 4), "b,f,x,s", name="raw")
    target = Input((2, 2, 3), "b,f,x", name="target")
    if cls is BinaryNLL:
        return BinaryNLL(Perceptron(raw, 2, "sig"), target)
    first = Perceptron(raw, 2, "sig")
    return cls(first, Perceptron(raw, 2, second), target)


def likelihood(cls: Any, activation: str, **options: Any) -> Node:
    raw = image()
    mean, width = sigmoid(raw), Perceptron(raw, 2, activation)
    return cls(mean, width, Input_like(mean, name="target"), **options)


def overlap(cls: Any, n_indep: int = 1, weighted: bool = False, **options: Any) -> Node:
    probs = Softmax(image(3 * n_indep), n_indep=n_indep)
    if weighted:
        options |= {"example_weights": Input((2, 2, 3), "b,y,x", name="e"), "class_weights": [1, 2, 0.5] * n_indep}
    return cls(probs, Input_like(probs, override_f=n_indep, dtype="int64", name="target"), True, **options)


def yes_no(cls: Any, activation: str = "sig", **options: Any) -> Node:
    pred = Perceptron(volume(), 2, activation)
    return cls(pred, Input_like(pred, name="target"), **options)


def malis() -> Node:
    probs = Softmax(Input((1, 4, 1, 2, 3), "b,f,z,y,x", name="raw"), n_indep=2)
    target = Input_like(probs, "int16", "affinities", override_f=2)
    return MalisNLL(probs, target, Input_like(probs, "int64", "ids", override_f=1), [[0, 1, 0], [0, 0, 1]])


EXAMPLES: dict[str, NodeExample] = {
    "squared": NodeExample(lambda: regression(SquaredLoss), arrays=uniform),
    "squared margin": NodeExample(lambda: regression(SquaredLoss, margin=0.3, scale_correction=0.5), arrays=uniform),
    "squared flat": NodeExample(difference_1d, arrays=uniform),
    "absolute": NodeExample(lambda: regression(AbsLoss), arrays=uniform),
    "absolute margin": NodeExample(lambda: regression(AbsLoss, margin=0.3, scale_correction=0.5), arrays=uniform),
    "sobel 1d": NodeExample(lambda: gradients("x")),
    "sobel 2d": NodeExample(lambda: gradients("y,x")),
    "sobel 3d": NodeExample(lambda: gradients("z,y,x")),
    "euclidean": NodeExample(lambda: regression(EuclideanDistance), arrays=uniform),
    "ramp": NodeExample(ramp),
    "binary": NodeExample(binary, arrays=uniform),
    "binary entropy": NodeExample(lambda: binary(subtract_label_entropy=True), arrays=uniform),
    "binary samples": NodeExample(lambda: with_samples(BinaryNLL, ""), arrays=uniform),
    "gaussian": NodeExample(lambda: likelihood(GaussianNLL, "soft+"), arrays=uniform),
    "gaussian log": NodeExample(lambda: likelihood(GaussianNLL, "lin", sig_is_log=True), arrays=uniform),
    "gaussian samples": NodeExample(lambda: with_samples(GaussianNLL, "soft+"), arrays=uniform),
    "beta": NodeExample(lambda: likelihood(BetaNLL, "concentration"), arrays=uniform),
    "beta samples": NodeExample(lambda: with_samples(BetaNLL, "concentration"), arrays=uniform),
    "dice": NodeExample(lambda: overlap(DiceLoss, weighted=True)),
    "dice groups": NodeExample(lambda: overlap(DiceLoss, 2, squared=True)),
    "dice batch": NodeExample(lambda: overlap(DiceLoss, per_example=False, smooth=0)),
    "dice generalised": NodeExample(lambda: overlap(DiceLoss, 2, weighted=True, generalised=True)),
    "dice sigmoid": NodeExample(lambda: yes_no(DiceLoss), arrays=uniform),
    "tversky": NodeExample(lambda: overlap(TverskyLoss, 2)),
    "tversky focal": NodeExample(lambda: yes_no(TverskyLoss, gamma=0.75), arrays=uniform),
    "bce dice": NodeExample(lambda: yes_no(BCEDiceLoss), arrays=uniform),
    "bce dice softmax": NodeExample(lambda: overlap(BCEDiceLoss, 2, weighted=True, dice_weight=0.5)),
    "lovasz": NodeExample(lambda: overlap(LovaszLoss, 2)),
    "lovasz sigmoid": NodeExample(lambda: yes_no(LovaszLoss, per_example=False), arrays=uniform),
    "lovasz hinge": NodeExample(lambda: yes_no(LovaszLoss, "lin"), arrays=uniform),
    "malis": NodeExample(malis),
}
