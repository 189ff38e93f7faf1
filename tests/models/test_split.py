"""Pieces of nodes: which entries they hold, where they lie, what losses may still ask of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    Conv,
    FromTensor,
    Input,
    Model,
    MultinoulliNLL,
    Node,
    Perceptron,
    Softmax,
    load_model,
    split,
)


def image(y: int | None = 6) -> Input:
    return Input((2, 4, y, 7), "b,f,y,x", name="raw")


def test_pieces_hold_what_numpy_slices_hold() -> None:
    raw = image()
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 7)).astype(np.float32)
    pieces = split(raw, "y", index=[1, 4])
    for piece, part in zip(pieces, (x[:, :, :1], x[:, :, 1:4], x[:, :, 4:]), strict=True):
        np.testing.assert_array_equal(piece(x), part)
    for piece, part in zip(split(raw, "f", n_out=2), (x[:, :2], x[:, 2:]), strict=True):
        np.testing.assert_array_equal(piece(x), part)
    first, rest = split(raw, "f", index=1, strip_singleton_dims=True)
    np.testing.assert_array_equal(first(x), x[:, 0])
    np.testing.assert_array_equal(rest(x), x[:, 1:])


def test_the_last_piece_and_equal_parts_follow_other_sizes() -> None:
    x = np.random.default_rng(0).normal(size=(1, 4, 8, 7)).astype(np.float32)
    np.testing.assert_array_equal(split(image(), "y", index=2)[1](x), x[:, :, 2:])
    np.testing.assert_array_equal(split(image(), "y", n_out=2)[1](x), x[:, :, 4:])
    with pytest.raises(ShapeError, match="axis y of size 7 doesn't divide into 2 equal parts"):
        split(image(), "y", n_out=2)[1](x[:, :, :7])
    unknown = split(image(None), "y", index=2)[1]
    assert unknown.shape["y"] is None
    np.testing.assert_array_equal(unknown(x), x[:, :, 2:])


def test_a_piece_of_space_lies_further_on_in_the_input() -> None:
    strided = Conv(Input((1, 1, 21, 21), "b,f,y,x"), 2, (2, 2), (2, 2))
    before, behind = split(strided, "y", index=3)
    assert before.shape.centre == strided.shape.centre
    assert behind.shape.centre == (strided.shape.centre[0] + 3 * 2, strided.shape.centre[1])
    assert behind.shape.strides == strided.shape.strides
    assert split(strided, "y", n_out=5)[2].shape.centre[0] == strided.shape.centre[0] + 4 * 2
    line = split(strided, "y", index=1, strip_singleton_dims=True)[0]
    assert line.shape.tags == ("b", "f", "x")
    assert (line.shape.fov, line.shape.strides, line.shape.centre) == ((3,), (2,), strided.shape.centre[1:])


def test_pieces_of_a_softmax_are_distributions_if_they_hold_whole_groups() -> None:
    probs = Softmax(Perceptron(Input((2, 3), "b,f"), 6, "lin"), n_indep=3)
    one, two = split(probs, "f", index=2)
    assert (one.n_class, one.n_indep, two.n_class, two.n_indep) == (2, 1, 2, 2)
    assert split(probs, "b", index=1)[0].n_indep == 3
    assert not hasattr(split(probs, "f", index=3)[0], "n_class")
    assert not hasattr(split(Perceptron(Input((2, 3), "b,f"), 6, "lin"), "f", index=2)[0], "n_class")


def test_a_loss_of_a_piece_is_that_of_a_softmax_of_its_own() -> None:
    scores = Perceptron(Input((4, 3), "b,f"), 6, "lin")
    piece = split(Softmax(scores, n_indep=3), "f", index=2)[1]
    own = Softmax(split(scores, "f", index=2)[1], n_indep=2)
    rng = np.random.default_rng(0)
    x, ids = rng.normal(size=(4, 3)), rng.integers(-1, 2, (4, 2))
    target = Input((4, 2), "b,f", dtype="int64", name="target")
    losses = [MultinoulliNLL(pred, target, target_is_sparse=True)(x, ids) for pred in (piece, own)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    with pytest.raises(ModelError, match=r"needs the output of a Softmax, not FromTensor 'split' \(f from 0 to 3\)"):
        MultinoulliNLL(split(Softmax(scores, n_indep=3), "f", index=3)[0], target, target_is_sparse=True)


def test_names_dtype_and_activation() -> None:
    target = Input((2, 3), "b,f", dtype="int64", name="target")
    a, b = split(target, index=1, name=["barrier", "object"])
    assert (a.name, b.name, a.dtype) == ("barrier", "object", "int64")
    assert split(Perceptron(Input((2, 3), "b,f"), 4, "sig"), n_out=2)[0].activation_func == "sig"


def test_pieces_are_stored_with_a_model(tmp_path: Path) -> None:
    pieces = split(Conv(image(), 4, (3, 3)), "f", n_out=2)
    model = Model(input_node=pieces[0].input_nodes[0], prediction_node=pieces[1], prediction_ext=[pieces[0]])
    assert [name for name in model.nodes if name.startswith("split")] == ["split", "split1"]
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 7))
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis": "z", "index": 1}, "no axis 'z', only b, f, y, x"),
        ({"axis": "y"}, "give either index, where to cut, or n_out"),
        ({"axis": "y", "index": 1, "n_out": 2}, "give either index"),
        ({"axis": "y", "index": 6}, "entries 6 to the end of axis y, but it has 6"),
        ({"axis": "y", "index": [2, 9]}, "entries 2 to 9 of axis y, but it has 6"),
        ({"axis": "y", "index": [3, 2]}, r"must be whole numbers from 1 on that rise, not \[3, 2\]"),
        ({"axis": "y", "index": 0}, "must be whole numbers from 1 on that rise, not 0"),
        ({"axis": "y", "index": "two"}, "must be whole numbers from 1 on that rise, not 'two'"),
        ({"axis": "y", "index": []}, "must be whole numbers from 1 on that rise"),
        ({"axis": "y", "n_out": 4}, "axis y of size 6 doesn't divide into 4 equal parts"),
        ({"axis": "y", "n_out": 0}, "n_out must be a whole number from 1 on, not 0"),
        ({"axis": "y", "n_out": 2, "name": ["a"]}, "2 pieces need as many names, not 1"),
    ],
)
def test_what_can_not_be_split_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises((ModelError, ShapeError), match=message):
        split(image(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis": "y", "start": 2, "stop": 2}, "stop must lie behind start, but 2 to 2 holds nothing"),
        ({"axis": "y", "start": -1}, "start must be a whole number from 0 on, not -1"),
        ({"axis": "y", "start": 1, "stop": 4, "parts": 3}, "there are 3 parts"),
        ({"axis": "y", "stop": 3, "strip": True}, "axis y can't be dropped: 3 entries are left"),
    ],
)
def test_ranges_that_are_none_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises((ModelError, ShapeError), match=message):
        FromTensor(image(), **arguments)


def test_a_batch_of_fragments_is_not_cut() -> None:
    fragments: Node = image()
    fragments.shape = fragments.shape.updatemfp_offsets([[0, 0], [0, 1]])
    with pytest.raises(ShapeError, match="FragmentsToDense"):
        split(fragments, "b", index=1)
