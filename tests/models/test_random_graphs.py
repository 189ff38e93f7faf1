"""Random graphs: computed shapes are the declared ones, and files, copies and other patch sizes keep what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    Add,
    Concat,
    Conv,
    Crop,
    Input,
    Model,
    MultMerge,
    Node,
    Pad,
    Perceptron,
    Pool,
    UpConvMerge,
    load_model,
    rebuild_model,
)

SETTINGS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)
MERGES = ("merge", "concat", "add", "mult")
Recipe = list[tuple[str, tuple[int, ...], tuple[Any, ...]]]


def grow(size: tuple[int, ...], recipe: Recipe) -> Model:
    """Make the graph of a recipe; each entry takes nodes that were made before it, by number."""
    torch.manual_seed(0)
    tags = "b,f,y,x" if len(size) == 2 else "b,f,x"
    nodes: list[Node] = [Input((1, 2, *size), tags, name="raw")]
    for kind, (first, second), arguments in recipe:
        a, b = nodes[first], nodes[second]
        if kind == "conv":
            kernel, pool, mode, norm = arguments
            node: Node = Conv(a, 2, kernel, pool, mode, "tanh", batch_normalisation=norm)
        elif kind == "pool":
            node = Pool(a, arguments[0], mode="average")
        elif kind == "pad":
            node = Pad(a, arguments[0])
        elif kind == "crop":
            node = Crop(a, arguments[0])
        elif kind == "dot":
            node = Perceptron(a, 2, "tanh")
        elif kind == "merge":
            node = UpConvMerge(a, b, 2, upconv_kwargs={"activation_func": "tanh"})
        else:
            node = {"concat": lambda a, b: Concat([a, b]), "add": Add, "mult": MultMerge}[kind](a, b)
        nodes.append(node)
    return Model(nodes[0], prediction_node=nodes[-1])


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Model, Recipe]:
    """A model of up to eight nodes: layers in a row, and merges of any two that fit each other."""
    ndim = draw(st.integers(1, 2))
    size = tuple(draw(st.tuples(*[st.integers(8, 20)] * ndim)))
    axis = st.tuples
    recipe: Recipe = []
    model: Model | None = None
    for _ in range(draw(st.integers(2, 8))):
        count = len(recipe) + 1
        kind = draw(st.sampled_from(["conv", "conv", "pool", "pad", "crop", "dot", "merge", "concat", "add", "mult"]))
        arguments: tuple[Any, ...] = ()
        if kind == "conv":
            mode = draw(st.sampled_from(["valid", "valid", "same", "full"]))
            kernel = draw(axis(*[st.sampled_from([1, 3] if mode == "same" else [1, 2, 3])] * ndim))
            pool = draw(axis(*[st.sampled_from([1, 1, 2])] * ndim))
            arguments = (kernel, pool, mode, draw(st.sampled_from([False, "train", "predict"])))
        elif kind == "pool":
            arguments = (draw(axis(*[st.integers(1, 2)] * ndim)),)
        elif kind in ("pad", "crop"):
            arguments = (draw(axis(*[st.integers(0, 2)] * ndim)),)
        parents = (draw(st.integers(max(0, count - 3), count - 1)), draw(st.integers(0, count - 1)))
        try:
            model = grow(size, [*recipe, (kind, parents, arguments)])
        except ModelError:
            continue  # these two don't fit each other: the others do
        recipe.append((kind, parents, arguments))
    assume(model is not None and len(recipe) >= 2)
    recipe = without_dead_ends(recipe)
    return grow(size, recipe), recipe


def without_dead_ends(recipe: Recipe) -> Recipe:
    """Leave out what the last node doesn't need: a model knows nothing of it, either."""
    needed, stack = set(), [len(recipe)]
    while stack:
        number = stack.pop()
        if number and number not in needed:
            needed.add(number)
            kind, parents, _ = recipe[number - 1]
            stack += parents if kind in MERGES else parents[:1]
    place = {0: 0} | {number: i for i, number in enumerate(sorted(needed), 1)}
    return [
        (kind, (place[a], place.get(b, 0)), arguments)
        for number, (kind, (a, b), arguments) in enumerate(recipe, 1)
        if number in needed
    ]


def same(a: Model, b: Model) -> bool:
    x = {"raw": torch.rand([n or 1 for n in a.input_node.shape.shape], generator=torch.Generator().manual_seed(1))}
    a.eval()
    b.eval()
    with torch.no_grad():
        pairs = zip(a.compute(list(a.nodes.values()), x), b.compute(list(b.nodes.values()), x), strict=True)
        return a.describe() == b.describe() and all(torch.equal(p, q) for p, q in pairs)


@SETTINGS
@given(graphs(), st.integers(1, 3), st.tuples(st.integers(-6, 8), st.integers(-6, 8)))
def test_shapes(made: tuple[Model, Recipe], batch: int, more: tuple[int, int]) -> None:
    """Declared sizes are the computed ones; arrays of other sizes fit exactly or are refused."""
    model, recipe = made
    model.test_run()
    size = tuple(max(1, (n or 1) + m) for n, m in zip(model.input_node.shape.spatial_shape, more, strict=False))
    x = np.zeros((batch, 2, *size), np.float32)
    try:
        y = model.predict(x)
    except ShapeError:
        return
    fresh = grow(size, recipe)
    assert y.shape == (batch, *fresh.prediction_node.shape.shape[1:])


@SETTINGS
@given(graphs())
def test_files_and_copies(tmp_path: Path, made: tuple[Model, Recipe]) -> None:
    model, _ = made
    path = tmp_path / "model.safetensors"
    model.save(path)
    assert same(model, load_model(path))
    content = path.read_bytes()
    again = rebuild_model(model)
    assert same(model, again)
    again.save(path)
    assert path.read_bytes() == content


@SETTINGS
@given(graphs(), st.tuples(st.integers(-4, 9), st.integers(-4, 9)))
def test_another_patch_size_is_as_if_built_anew(made: tuple[Model, Recipe], more: tuple[int, int]) -> None:
    model, recipe = made
    size = [max(1, (n or 1) + m) for n, m in zip(model.input_node.shape.spatial_shape, more, strict=False)]
    try:
        rebuilt = rebuild_model(model, imposed_patch_size=size)
    except ShapeError:
        return  # no size near it: merges with fixed crops
    got = rebuilt.input_node.shape.spatial_shape
    assume(max(n or 0 for n in got) < 40)
    rebuilt.test_run()
    fresh = grow(got, recipe)  # type: ignore[arg-type]
    assert [n.shape for n in rebuilt.nodes.values()] == [n.shape for n in fresh.nodes.values()]
    fresh.module.load_state_dict(model.module.state_dict())
    assert same(rebuilt, fresh)
    if got != tuple(size):
        with pytest.raises(ShapeError, match="nearest that fits"):
            rebuild_model(model, imposed_patch_size=size, exact=True)


@pytest.mark.timeout(20)
def test_a_cycle_made_by_hand_is_refused() -> None:
    """Parents come first, so constructors make no cycle; whoever sets parents afterwards is told."""
    raw = Input((1, 2, 8), "b,f,x", name="raw")
    first = Conv(raw, 2, (1,), name="first")
    second = Add(Conv(first, 2, (1,), name="second"), raw, name="sum")
    first.parents = (second,)
    for call in (lambda: Model(raw, prediction_node=second), lambda: second(np.zeros((1, 2, 8)))):
        with pytest.raises(ModelError, match=r"cycle.*'(first|second|sum)'"):
            call()
