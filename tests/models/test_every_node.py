"""What holds for every class of node: its declared shape, its gradient, its way through a file."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from example_nodes import EXAMPLES

from elektronn_tui.errors import ShapeError
from elektronn_tui.models import Model, Node, load_model
from elektronn_tui.models.plan import Plan, infer_shapes, walk
from elektronn_tui.models.storage import node_classes


def made(name: str) -> Node:
    torch.manual_seed(1)
    return EXAMPLES[name].make()


def test_every_class_has_an_example() -> None:
    covered = {type(node).__name__ for name in EXAMPLES for node in walk([made(name)])}
    assert not set(node_classes()) - covered


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_declared_shape_is_the_computed_one(name: str) -> None:
    node = made(name)
    arrays = EXAMPLES[name].values(node)
    declared = tuple(1 if n is None else n for n in node.shape.shape)
    assert node(*arrays).shape == declared


def resized(tensor: torch.Tensor, axis: int, more: int) -> torch.Tensor:
    """Return a tensor with more entries on an axis, by repetition."""
    size = tensor.shape[axis] + more
    return tensor.index_select(axis, torch.arange(size) % tensor.shape[axis])


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if not example.own_shape])
def test_the_inferred_shape_of_other_sizes_is_the_computed_one(name: str) -> None:
    node = made(name)
    plan = Plan([node])
    tensors = EXAMPLES[name].tensors(node)
    for member in plan.nodes:
        member.operation.double().eval()
    fitted = set()
    for tag, more in itertools.product("rbzyx", (1, 2, 4, 3)):
        if tag in fitted:
            continue
        others = [
            resized(x, source.shape.tag2index(tag), more) if source.shape.hastag(tag) else x
            for source, x in zip(plan.inputs, tensors, strict=True)
        ]
        sizes = [getattr(x, "shape", ()) for x in others]
        if sizes == [getattr(x, "shape", ()) for x in tensors]:
            continue
        try:
            given = {source: source.fitted_shape(size) for source, size in zip(plan.inputs, sizes, strict=True)}
            inferred = infer_shapes(plan.nodes, given)[node]
        except ShapeError:
            continue
        fitted.add(tag)
        with torch.no_grad():
            assert tuple(plan.run(others)[0].shape) == inferred.shape, f"{more} more on axis {tag}"
    assert fitted


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if example.differentiable])
def test_gradients(name: str) -> None:
    node = made(name)
    plan = Plan([node])
    for member in plan.nodes:
        member.operation.double()
    x, *others = EXAMPLES[name].tensors(node, seed=5)
    parameters = {
        (member, key): p.detach().clone().requires_grad_()
        for member in plan.nodes
        for key, p in member.operation.named_parameters()
    }

    def run(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        for (member, key), value in zip(parameters, values, strict=True):
            owner, _, leaf = key.rpartition(".")
            module = member.operation.get_submodule(owner)
            module._parameters.pop(leaf, None)
            setattr(module, leaf, value)
        torch.manual_seed(7)  # the same sample in every call
        return plan.run([x, *others])[0]

    # Along random directions: entry by entry it takes minutes for all.
    assert torch.autograd.gradcheck(run, (x.requires_grad_(), *parameters.values()), atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("name", EXAMPLES)
def test_round_trip_through_a_file(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    node = made(name)
    model = Model(input_node=node.input_nodes[0], prediction_node=node)
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors", **example.given)
    assert again.describe() == model.describe()
    arrays = example.values(node)
    if example.deterministic:
        np.testing.assert_array_equal(again.predict(*arrays), model.predict(*arrays))
    again.save(tmp_path / "again.safetensors")
    third = load_model(tmp_path / "again.safetensors", **example.given)
    assert third.describe() == model.describe()
    expected = model.module.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in third.module.state_dict().items())
