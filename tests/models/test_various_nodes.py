"""Values, initial states, local response normalisation, random variables, stereographic projection."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    LRN,
    AggregateLoss,
    Concat,
    Conv,
    GaussianRV,
    InitialState_like,
    Input,
    Model,
    MultMerge,
    Node,
    Perceptron,
    StereographicMap,
    TaggedShape,
    ValueNode,
)


@pytest.mark.parametrize(
    "value", [2.0, [2.0, 3.0], [[2.0], [3.0]], np.full((1, 2, 3), 2.0), torch.tensor([1.0, 2.0, 3.0]), None]
)
def test_values_are_repeated_to_the_shape(value: Any) -> None:
    node = ValueNode((1, 2, 3), "b,f,x", value=value)
    given = np.asarray(0.0 if value is None else value)
    if given.shape == (2,):
        given = given[:, None]
    np.testing.assert_array_equal(node(), np.broadcast_to(given, (1, 2, 3)))
    np.testing.assert_array_equal(node.get_value(), node())
    assert not node.is_source
    assert node.param_count == 0


def test_values_can_be_trained() -> None:
    node = ValueNode(TaggedShape((1, 2), "b,f"), apply_train=True, init_kwargs={"scale": 0.5, "mode": "const"})
    assert node.param_count == 2
    assert node.get_value().tolist() == [[0.5, 0.5]]
    constant = ValueNode((1, 2), "b,f", init_kwargs={"scale": 0.1, "mode": "fix-uni"})
    assert constant.param_count == 0
    assert 0 < np.abs(constant.get_value()).max() <= 0.1
    assert ValueNode((2,), "f", apply_train=True, value=[[1, 2], "const"]).param_count == 0
    assert ValueNode((2,), "f", value=[[1, 2], "trainable"]).param_count == 2
    shared = ValueNode((1, 2), "b,f", value=node.value)
    node.value = [[1.0, 2.0]]
    assert shared.get_value().tolist() == [[1, 2]]
    assert not shared.params
    raw = Input((1, 2), "b,f", name="raw")
    groups = Model(raw, loss_node=AggregateLoss(MultMerge(raw, node))).parameter_groups()
    assert [group["name"] for group in groups] == ["decay"]


def test_values_of_integers_stay_exact() -> None:
    node = ValueNode((2,), "f", dtype="int64", value=[2**40 + 1, -1])
    assert node.get_value().tolist() == [2**40 + 1, -1]
    assert node().dtype == np.int64


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"shape": (None, 2), "tags": "b,f"}, "all sizes must be known"),
        ({"shape": (1, 2)}, "tags are needed"),
        ({"shape": TaggedShape((1, 2), "b,f"), "tags": "b,f"}, "already says"),
        ({"shape": (1, 2), "tags": "b,f", "value": [1, 2, 3]}, r"shape \(3,\), which doesn't fit .* the 2 features"),
        ({"shape": (1, 2), "tags": "b,f", "value": "x"}, "value must be numbers"),
        ({"shape": (1, 2), "tags": "b,f", "value": 1, "init_kwargs": {}}, "not both"),
        ({"shape": (1, 2), "tags": "b,f", "init_kwargs": {"scal": 1}}, "Did you mean 'scale'"),
        ({"shape": (2,), "tags": "f", "init_kwargs": {"mode": "normal"}}, "two axes or more"),
        ({"shape": (2,), "tags": "f", "dtype": "float31"}, "Did you mean 'float32'"),
        ({"shape": (2,), "tags": "f", "dtype": "int64", "apply_train": True}, "can't be trained"),
    ],
)
def test_wrong_values(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        ValueNode(**arguments)


def test_the_initial_state_follows_the_batch() -> None:
    raw = Input((20, 3), "b,f", name="raw")
    state = InitialState_like(raw, 5)
    assert state.shape.shape == (20, 5)
    assert state.get_value().tolist() == [0] * 5
    state.value = np.arange(5)
    np.testing.assert_array_equal(state(np.ones((7, 3))), np.tile(np.arange(5), (7, 1)))
    image = Input((1, 3, 4, 2), "b,f,y,x", name="raw")
    drawn = InitialState_like(image, 5, init_kwargs={"mode": "fix-uni", "scale": 0.1})
    assert 0 < np.abs(drawn.get_value()).max() <= 0.1
    assert drawn(np.ones((2, 3, 4, 2)))[1, :, 3, 1] == pytest.approx(drawn.get_value())
    model = Model(raw, loss_node=AggregateLoss(Concat([raw, state])))
    assert [(g["name"], len(g["params"])) for g in model.parameter_groups()] == [("decay", 1)]


def test_wrong_initial_states() -> None:
    raw = Input((20, 3), "b,f", name="raw")
    for arguments, match in (
        ({"override_f": 0}, "override_f must be"),
        ({"override_f": 2, "dtype": "int64"}, "can't be trained"),
        ({"override_f": 2, "value": [1.0, 2.0, 3.0]}, r"shape \(3,\), but needs \(2,\)"),
    ):
        with pytest.raises(ModelError, match=match):
            InitialState_like(raw, **arguments)
    with pytest.raises(ShapeError, match="needs a parent with an axis f"):
        InitialState_like(Input((2, 3), "b,x", name="raw"), 2)
    assert InitialState_like(Input((2, 1), "b,f", dtype="int64"), 2).dtype == "float32"
    assert InitialState_like(raw, 2, dtype="float64").value.dtype == torch.float64


def test_lrn_figures() -> None:
    twos = np.full((1, 1, 7, 7), 2.0)
    raw = Input((1, 1, 7, 7), "b,f,y,x", name="raw")
    spatial = LRN(raw, (3, 3))
    assert spatial(twos)[0, 0, 3, 3] == pytest.approx(1.999400, abs=1e-6)
    assert LRN(raw, 1, mode="channel")(twos) == pytest.approx(np.full_like(twos, 1.999400), abs=1e-6)
    # In the corner 5 of 9 voxels lie outside.
    assert spatial(twos)[0, 0, 0, 0] == pytest.approx(2 / (1 + 1e-4 * 4 * 4 / 9) ** 0.75, abs=1e-6)
    spatial.alpha, spatial.k, spatial.beta = 3, 2, 1
    assert spatial(twos)[0, 0, 3, 3] == pytest.approx(2 / (2 + 3 * 4))
    assert (spatial.shape.fov, spatial.shape.offsets) == ((3, 3), (0, 0))


def test_lrn_over_features_repeats_the_edges() -> None:
    raw = Input((1, 4, 2), "b,f,x", name="raw")
    x = np.random.default_rng(0).normal(size=(1, 4, 2))
    padded = np.pad(x, ((0, 0), (2, 2), (0, 0)), mode="edge") ** 2
    mean = np.stack([padded[:, i : i + 5].mean(1) for i in range(4)], 1)
    node = LRN(raw, 5, "channel", alpha=0.7, k=1.5, beta=0.6)
    assert node(x) == pytest.approx(x / (1.5 + 0.7 * mean) ** 0.6, abs=1e-6)
    assert LRN(Input((2, 4), "b,f", name="raw"), 3, "channel").test_run().shape == (2, 4)


def test_lrn_refuses_what_has_no_middle() -> None:
    raw = Input((1, 1, 7, 7), "b,f,y,x", name="raw")
    for window, mode in (((3, 2), "spatial"), (4, "channel")):
        with pytest.raises(ShapeError, match="must be odd"):
            LRN(raw, window, mode)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="one odd number"):
        LRN(raw, (3, 3), "channel")
    with pytest.raises(ModelError, match="'spatial' or 'channel'"):
        LRN(raw, (3, 3), "feature")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="k: 0 is not allowed"):
        LRN(raw, (3, 3), k=0)


def distribution(mean: float, log_sig: float, size: int = 4000) -> tuple[Node, Node]:
    raw = Input((size, 1), "b,f", name="raw")
    return (
        Perceptron(raw, 2, "lin", w=np.zeros((1, 2)), b=[mean, -mean]),
        Perceptron(raw, 2, "lin", w=np.zeros((1, 2)), b=[log_sig, 0.0]),
    )


def test_gaussian_samples_have_their_mean_and_deviation() -> None:
    mu, log_sig = distribution(1.5, math.log(3))
    node = GaussianRV(mu, log_sig, n_samples=3)
    assert node.shape.tags == ("b", "s", "f")
    torch.manual_seed(0)
    x = np.zeros((4000, 1))
    samples = node(x)
    assert samples.shape == (4000, 3, 2)
    assert samples.mean((0, 1)) == pytest.approx([1.5, -1.5], abs=0.1)
    assert samples.std((0, 1)) == pytest.approx([3, 1], abs=0.1)
    assert abs(np.corrcoef(samples[:, 0, 0], samples[:, 1, 0])[0, 1]) < 0.1
    assert not np.array_equal(node(x), samples)
    torch.manual_seed(0)
    np.testing.assert_array_equal(node(x), samples)
    assert GaussianRV(mu, log_sig).shape.shape == (4000, 2)


def test_the_prior_is_the_divergence() -> None:
    mu, log_sig = distribution(0.7, math.log(2), size=3)
    prior = GaussianRV(mu, log_sig, n_samples=4, name="code").make_priorlayer()
    assert prior.name == "code_prior"
    value = prior(np.zeros((3, 1)))
    assert value.shape == prior.shape.shape == (3, 4, 2)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(torch.tensor([0.7, -0.7]), torch.tensor([2.0, 1.0])), normal(0.0, 1.0)
    )
    assert value[1, 2] == pytest.approx(expected.numpy(), abs=1e-6)


def test_wrong_random_variables() -> None:
    mu, log_sig = distribution(0, 0, size=3)
    with pytest.raises(ShapeError, match="differ on axis f: 2 and 1"):
        GaussianRV(mu, mu.parents[0])
    with pytest.raises(ModelError, match="n_samples must be"):
        GaussianRV(mu, log_sig, n_samples=-1)
    flat = Input((3,), "f", name="raw")
    with pytest.raises(ShapeError, match="needs an axis b"):
        GaussianRV(flat, flat, n_samples=2)


def test_stereographic_projection() -> None:
    raw = Input((None, 3), "b,f", name="raw")
    x = np.array([[0.5, 0, 0], [0.5, 1, 0], [-2, 0, -1], [1, 1e4, 0], [0.3, 0.4, -1.7]])
    points = StereographicMap(raw)(x)
    length = np.log1p(np.exp(x[:, 0]))
    assert np.linalg.norm(points, axis=1) == pytest.approx(length, rel=1e-5)
    assert points[:4] / length[:4, None] == pytest.approx(
        np.array([[1, 0, 0], [0, 1, 0], [0, 0, -1], [-1, 0, 0]]), abs=1e-3
    )
    # Projecting back from the pole -z gives the point of the plane.
    z, y, u = points[4] / length[4]
    assert (y / (1 + z), u / (1 + z)) == pytest.approx((0.4, -1.7), rel=1e-5)
    with pytest.raises(ShapeError, match="needs three features"):
        StereographicMap(Conv(Input((1, 1, 5), "b,f,x"), 2, (1,)))
