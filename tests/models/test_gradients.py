"""Gradients against finite differences, in double precision."""

from __future__ import annotations

import torch

from elektronn_tui.models import (
    Input,
    Input_like,
    MultinoulliNLL,
    Node,
    Softmax,
)
from elektronn_tui.models.plan import Plan


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

    assert torch.autograd.gradcheck(run, (x, *parameters.values()), atol=1e-6, fast_mode=True)


def test_loss_with_soft_targets_and_masks() -> None:
    probs = Softmax(Input((2, 3, 4), "b,f,x", name="raw"))
    e, m, n = Input((2, 4), "b,x"), Input((2, 3), "b,f"), Input((2, 3), "b,f")
    target = Input_like(probs, name="target")
    nll = MultinoulliNLL(probs, target, False, None, e, 0, m, n)
    soft = torch.rand(2, 3, 4, dtype=torch.float64).softmax(1)
    masks = torch.randint(0, 2, (2, 2, 3), dtype=torch.float64)
    check(nll, soft, torch.rand(2, 4, dtype=torch.float64), *masks)
