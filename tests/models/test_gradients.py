"""Gradients against finite differences, in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from elektronn_tui.models import (
    Add,
    AggregateLoss,
    Concat,
    Conv,
    Crop,
    Input,
    Input_like,
    MultinoulliNLL,
    Node,
    Perceptron,
    Pool,
    Softmax,
    UpConv,
    UpConvMerge,
)
from elektronn_tui.models.activations import ACTIVATIONS
from elektronn_tui.models.plan import Plan


def image(n_f: int = 2) -> Input:
    return Input((2, n_f, 6, 7), "b,f,y,x", name="raw")


def volume() -> Input:
    return Input((1, 2, 3, 4, 4), "b,f,z,y,x", name="raw")


NODES: dict[str, Callable[[], Node]] = {
    "conv1d": lambda: Conv(Input((2, 2, 7), "b,f,x"), 3, (2,), (2,), activation_func="tanh"),
    "conv2d": lambda: Conv(image(), 3, (3, 2), (2, 3), activation_func="tanh"),
    "conv3d": lambda: Conv(volume(), 2, (2, 3, 3), (2, 1, 1), activation_func="tanh"),
    "conv same": lambda: Conv(image(), 3, (3, 3), conv_mode="same", activation_func="tanh"),
    "conv full": lambda: Conv(image(), 3, (3, 2), conv_mode="full", activation_func="tanh"),
    "conv prelu": lambda: Conv(image(), 3, (3, 3), activation_func="prelu", b=[[0.1, 0.3], [0.0, 0.7], [0.2, 1.0]]),
    "conv maxout": lambda: Conv(image(), 4, (3, 3), activation_func="maxout 2"),
    "conv batch norm": lambda: Conv(image(), 3, (3, 3), batch_normalisation="train", activation_func="tanh"),
    "conv stored norm": lambda: Conv(image(), 3, (3, 3), batch_normalisation="predict", activation_func="tanh"),
    "upconv": lambda: UpConv(image(), 3, (2, 1), activation_func="tanh"),
    "upconv 3d": lambda: UpConv(volume(), 2, (1, 2, 2), activation_func="tanh", identity_init=False),
    "perceptron": lambda: Perceptron(image(), 3, "tanh"),
    "perceptron flat": lambda: Perceptron(image(), 3, "tanh", flatten=True),
    "perceptron norm": lambda: Perceptron(image(), 3, "tanh", batch_normalisation="train"),
    "pool max": lambda: Pool(image(), (2, 1)),
    "pool average": lambda: Pool(image(), (2, 1), mode="average"),
    "pool sum": lambda: Pool(image(), (2, 1), mode="sum"),
    "crop": lambda: Crop(image(), (1, 2)),
    "concat": lambda: Concat([(raw := image()), Conv(raw, 2, (1, 1), activation_func="tanh")]),
    "add": lambda: Add((raw := image()), Conv(raw, 2, (1, 1), activation_func="tanh")),
    "merge": lambda: UpConvMerge(
        (raw := volume()), Pool(raw, (1, 2, 2), mode="average"), 3, upconv_kwargs={"activation_func": "tanh"}
    ),
    "softmax": lambda: Softmax(image()),
    "softmax groups": lambda: Softmax(image(6), n_indep=3),
} | {
    f"activation {name}": (lambda name=name: Perceptron(image(), 3, name, b=[0.3, -0.4, 0.1]))  # type: ignore[misc]
    for name in ACTIVATIONS
}


def check(node: Node, *integers: torch.Tensor) -> None:
    """Check the gradients by the first input and by all parameters."""
    torch.manual_seed(5)
    plan = Plan([node])
    for member in plan.nodes:
        member.operation.double()
    x = torch.randn([n or 1 for n in plan.inputs[0].shape.shape], dtype=torch.float64, requires_grad=True)
    parameters = {
        (member, key): p.detach().clone().requires_grad_()
        for member in plan.nodes
        for key, p in member.operation.named_parameters()
    }

    def run(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        for (member, key), value in zip(parameters, values, strict=True):
            member.operation._parameters.pop(key, None)
            setattr(member.operation, key, value)
        return plan.run([x, *integers])[0]

    assert torch.autograd.gradcheck(run, (x, *parameters.values()), atol=1e-6)


@pytest.mark.parametrize("name", NODES)
def test_nodes(name: str) -> None:
    torch.manual_seed(1)
    check(NODES[name]())


@pytest.mark.parametrize("weakness", [0, 0.3])
@pytest.mark.parametrize("n_indep", [1, 2])
def test_sparse_losses(weakness: float, n_indep: int) -> None:
    probs = Softmax(Input((2, 4, 3), "b,f,x", name="raw"), n_indep=n_indep)
    target = Input_like(probs, override_f=n_indep, dtype="int64")
    nll = MultinoulliNLL(probs, target, True, class_weights=[1, 2, 0.5, 3], weakness=weakness)
    labels = torch.randint(-1, 4 // n_indep, (2, n_indep, 3))
    check(nll, labels)
    check(AggregateLoss([nll, nll], [0.5, 2]), labels)


def test_loss_with_soft_targets_and_masks() -> None:
    probs = Softmax(Input((2, 3, 4), "b,f,x", name="raw"))
    e, m, n = Input((2, 4), "b,x"), Input((2, 3), "b,f"), Input((2, 3), "b,f")
    target = Input_like(probs, name="target")
    nll = MultinoulliNLL(probs, target, False, None, e, 0, m, n)
    soft = torch.rand(2, 3, 4, dtype=torch.float64).softmax(1)
    masks = torch.randint(0, 2, (2, 2, 3), dtype=torch.float64)
    check(nll, soft, torch.rand(2, 4, dtype=torch.float64), *masks)
