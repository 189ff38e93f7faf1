from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    Add,
    Concat,
    Conv,
    Crop,
    Input,
    Input_like,
    Perceptron,
    Pool,
    UpConv,
    UpConvMerge,
    initweights,
)

TAGS = {1: "b,f,x", 2: "b,f,y,x", 3: "b,f,z,y,x"}


def image(*size: int, n_f: int = 1, batch: int | None = None) -> Input:
    return Input((batch, n_f, *size), TAGS[len(size)], name="raw")


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("mode", ["valid", "same", "full"])
def test_conv_is_torchs_cross_correlation(ndim: int, mode: str) -> None:
    conv = Conv(image(*(9, 8, 7)[:ndim], n_f=2), 4, (3,) * ndim, conv_mode=mode, activation_func="lin")  # type: ignore[arg-type]
    x = torch.randn(2, 2, *(9, 8, 7)[:ndim])
    padding = {"valid": 0, "same": 1, "full": 2}[mode]
    function = (F.conv1d, F.conv2d, F.conv3d)[ndim - 1]
    expected = function(x, conv.w, conv.b, padding=padding).detach().numpy()
    assert conv(x) == pytest.approx(expected, abs=1e-6)
    assert conv.shape.spatial_shape == expected.shape[2:]


def test_pooling_comes_before_the_activation() -> None:
    conv = Conv(image(8, 8), 3, (3, 3), (2, 2), activation_func="abs")
    x = torch.randn(1, 1, 8, 8)
    expected = F.max_pool2d(F.conv2d(x, conv.w, conv.b), 2).abs().detach().numpy()
    assert conv(x) == pytest.approx(expected, abs=1e-6)


ACTIVATIONS: dict[str, Any] = {
    "tanh": math.tanh,
    "relu": lambda x: max(x, 0),
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x)),
    "abs": abs,
    "sig": lambda x: 1 / (1 + math.exp(-x)),
    "logistic": lambda x: 1 / (1 + math.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "soft+": lambda x: math.log1p(math.exp(x)),
    "lin": lambda x: x,
    "linear": lambda x: x,
    "concentration": lambda x: 7 * math.log1p(math.exp(x)) + 2,
    "radius": lambda x: 3 + 15 * math.exp(0.15 * x),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    raw = Input((None, 1), "b,f", name="raw")
    node = Perceptron(raw, 1, name, w=np.ones((1, 1)), b=[0.0])
    x = np.array([[-1.7], [-0.2], [0.0], [0.4], [2.0]])
    assert node(x)[:, 0] == pytest.approx([ACTIVATIONS[name](v) for v in x[:, 0]], abs=1e-6, rel=1e-6)


def test_prelu_has_a_slope_for_each_feature() -> None:
    raw = Input((None, 2), "b,f", name="raw")
    node = Perceptron(raw, 2, "prelu", w=np.eye(2), b=[[0.0, 0.5], [1.0, 0.1]])
    assert node([[-2.0, 3.0], [2.0, -3.0]]) == pytest.approx(np.array([[-1, 4], [2, -0.2]]), abs=1e-6)
    assert Perceptron(raw, 2, "prelu").b.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_maxout_joins_adjacent_features() -> None:
    raw = image(4, n_f=2)
    conv = Conv(raw, 6, (1,), activation_func="maxout 3", b=np.zeros(6))
    assert conv.shape["f"] == 2
    x = torch.randn(1, 2, 4)
    linear = F.conv1d(x, conv.w).detach().numpy()
    assert conv(x) == pytest.approx(linear.reshape(1, 2, 3, 4).max(2), abs=1e-6)
    with pytest.raises(ModelError, match="multiple of 4"):
        Conv(raw, 6, (1,), activation_func="maxout 4")
    with pytest.raises(ModelError, match="as in 'maxout 2'"):
        Conv(raw, 6, (1,), activation_func="maxout")


def test_bias_starts_by_activation() -> None:
    raw = image(9, 9)
    assert Conv(raw, 4, (2, 5)).b.tolist() == pytest.approx([0.1] * 4)
    assert Conv(raw, 4, (2, 5), activation_func="sigmoid").b.tolist() == [0.5] * 4
    tiny = Conv(raw, 4, (2, 5), activation_func="tanh").b.detach()
    assert 0 < float(tiny.abs().max()) <= 1e-6
    assert Perceptron(raw, 4).b.tolist() == [1.0] * 4
    assert Conv(raw, 4, (2, 5), activation_func="prelu").b.detach().numpy() == pytest.approx(np.array([[0.1, 1.0]] * 4))


def test_weights_start_with_glorots_deviation() -> None:
    torch.manual_seed(0)
    w = Conv(image(30, 30, n_f=20), 40, (5, 5), (2, 2)).w.detach()
    sigma = math.sqrt(2 / ((20 + 40 / 4) * 25))
    assert float(w.std()) == pytest.approx(sigma, rel=0.03)
    w = Perceptron(Input((1, 200), "b,f"), 300).w.detach()
    assert float(w.std()) == pytest.approx(math.sqrt(2 / 500), rel=0.03)


def test_orthogonal_weights() -> None:
    w = initweights((6, 3, 3, 3), mode="ortho")
    rows = w.reshape(6, -1).numpy()
    assert rows.std(1) == pytest.approx([math.sqrt(2 / (9 * 9))] * 6, rel=1e-4)
    matrix = initweights((20, 5), mode="ortho").numpy()
    columns = matrix / np.linalg.norm(matrix, axis=0)
    assert columns.T @ columns == pytest.approx(np.eye(5), abs=1e-5)
    with pytest.raises(ModelError, match="'nonsense' is no mode"):
        initweights((2, 2), mode="nonsense")  # type: ignore[arg-type]


def test_perceptron_works_at_every_position() -> None:
    raw = image(4, 5, n_f=3)
    node = Perceptron(raw, 7, "lin")
    x = torch.randn(2, 3, 4, 5)
    expected = torch.einsum("bfyx,fg->bgyx", x, node.w) + node.b.reshape(-1, 1, 1)
    assert node(x) == pytest.approx(expected.detach().numpy(), abs=1e-5)
    flat = Perceptron(raw, 7, "lin", flatten=True)
    assert flat(x) == pytest.approx((x.flatten(1) @ flat.w + flat.b).detach().numpy(), abs=1e-5)
    with pytest.raises(ShapeError, match="60 values an example"):
        flat(torch.randn(2, 3, 4, 6))
    series = Input((6, 2, 3), "r,b,f", name="series")
    assert Perceptron(series, 4).shape.shape == (6, 2, 4)
    assert Perceptron(series, 4)(np.zeros((6, 2, 3))).shape == (6, 2, 4)


def test_upconv_repeats_voxels_at_the_start() -> None:
    raw = image(3, 4, n_f=2)
    up = UpConv(raw, 2, (2, 3), activation_func="lin")
    x = np.random.default_rng(0).random((1, 2, 3, 4), dtype=np.float32)
    repeated = x.repeat(2, 2).repeat(3, 3)
    assert up.b.tolist() == [0, 0]
    noise = up.w.detach().clone()
    noise[0, 0] = noise[1, 1] = 0
    up.w = up.w.detach() - noise
    assert up(x) == pytest.approx(repeated, abs=1e-6)
    slopes = UpConv(raw, 2, (2, 3), activation_func="prelu").b
    assert slopes[:, 1].tolist() == [1, 1]


def test_upconv_noise_is_small() -> None:
    torch.manual_seed(0)
    w = UpConv(image(3, 4, n_f=60), 50, (2, 3)).w.detach().clone()
    for i in range(50):
        w[i, i] = torch.nan
    deviation = float(w[~w.isnan()].std())
    assert deviation == pytest.approx(0.1 * math.sqrt(2 / ((60 + 50 / 6) * 6)), rel=0.05)


def test_upconv_by_its_formula() -> None:
    up = UpConv(image(3, n_f=2), 4, (2,), activation_func="lin", identity_init=False)
    x = torch.randn(1, 2, 3)
    w, b = up.w.detach(), up.b.detach()
    y = up(x)
    for i in range(3):
        for j in range(2):
            expected = torch.einsum("n,fn->f", x[0, :, i], w[:, :, j]) + b
            assert y[0, :, 2 * i + j] == pytest.approx(expected.numpy(), abs=1e-5)


def test_pool_modes() -> None:
    raw = image(6, 6)
    x = torch.randn(1, 1, 6, 6)
    assert Pool(raw, (2, 3))(x) == pytest.approx(F.max_pool2d(x, (2, 3)).numpy())
    average = F.avg_pool2d(x, (2, 3)).numpy()
    assert Pool(raw, (2, 3), mode="average")(x) == pytest.approx(average)
    assert Pool(raw, (2, 3), mode="sum")(x) == pytest.approx(6 * average, rel=1e-5, abs=1e-6)
    strided = Pool(raw, (2, 3), (1, 3))
    assert strided.shape.spatial_shape == (5, 2)
    assert strided.shape.strides == (1, 3)
    assert strided(x) == pytest.approx(F.max_pool2d(x, (2, 3), (1, 3)).numpy())


class TestBatchNormalisation:
    def layer(self, **arguments: Any) -> Conv:
        return Conv(image(6, 6, n_f=2), 3, (3, 3), (2, 2), batch_normalisation="train", **arguments)

    def test_training_uses_the_batch(self) -> None:
        conv = self.layer(activation_func="lin")
        conv.gamma = [1.0, 2.0, 0.5]
        x = torch.randn(8, 2, 6, 6)
        y = F.max_pool2d(F.conv2d(x, conv.w), 2)
        mean = y.mean((0, 2, 3), keepdim=True)
        std = y.std((0, 2, 3), keepdim=True, correction=0) + 1e-6
        bias, gamma = conv.b.reshape(-1, 1, 1), conv.gamma.reshape(-1, 1, 1)
        conv.operation.train()
        assert torch.allclose(conv.operation(x), gamma * (y - mean) / std + bias, atol=1e-4)
        # The first step's statistics replace the arbitrary first values.
        assert torch.allclose(conv.mean, mean.flatten(), atol=1e-6)
        assert torch.allclose(conv.std, std.flatten(), atol=1e-5)

    def test_evaluation_uses_running_statistics_and_leaves_them_alone(self) -> None:
        conv = self.layer()
        conv.operation.train()
        torch.manual_seed(1)
        for _ in range(400):
            conv.operation(torch.randn(16, 2, 6, 6) * 3 + 1)
        x = torch.randn(4, 2, 6, 6) * 3 + 1
        state = {k: v.clone() for k, v in conv.operation.state_dict().items()}
        together = conv(x)
        alone = np.concatenate([conv(x[i : i + 1]) for i in range(4)])
        assert together == pytest.approx(alone, abs=1e-5)
        assert conv.operation.training
        assert all(torch.equal(v, state[k]) for k, v in conv.operation.state_dict().items())
        y = F.max_pool2d(F.conv2d(torch.randn(2000, 2, 6, 6) * 3 + 1, conv.w), 2).detach()
        assert conv.mean.numpy() == pytest.approx(y.mean((0, 2, 3)).numpy(), abs=0.3)
        assert conv.std.numpy() == pytest.approx(y.std((0, 2, 3)).numpy(), rel=0.1)

    def test_rate_falls_to_its_long_run_value(self) -> None:
        conv = self.layer()
        conv.operation.train()
        conv.operation.updates.fill_(10**6)
        before = conv.mean.clone()
        x = torch.randn(8, 2, 6, 6)
        conv.operation(x)
        batch = F.max_pool2d(F.conv2d(x, conv.w), 2).mean((0, 2, 3)).detach()
        assert torch.allclose(conv.mean, 0.9995 * before + 0.0005 * batch, atol=1e-7)

    def test_predict_uses_given_statistics(self) -> None:
        given = {"gamma": [2.0, 1, 1], "mean": [1.0, 0, 0], "std": [4.0, 1, 1], "b": [0.5, 0, 0]}
        conv = Conv(image(6, 6, n_f=2), 3, (3, 3), activation_func="lin", batch_normalisation="predict", **given)
        conv.operation.train()
        x = torch.randn(2, 2, 6, 6)
        y = F.conv2d(x, conv.w)[:, 0].detach()
        assert torch.allclose(conv.operation(x)[:, 0], 2 * (y - 1) / 4 + 0.5, atol=1e-5)
        assert not conv.gamma.requires_grad
        assert conv.param_count == 3 * 2 * 9 + 3

    @pytest.mark.parametrize("kind", ["conv", "upconv", "perceptron"])
    @pytest.mark.parametrize("rate", [1.0, 0.7, 0.0])
    def test_fadeout(self, kind: str, rate: float) -> None:
        raw = image(5, 6, n_f=2)
        arguments: dict[str, Any] = {
            "activation_func": "lin",
            "batch_normalisation": "fadeout",
            "gradnet_mode": True,
            "gamma": [1.0, 2.0, 0.5],
            "b": [0.1, -0.2, 0.3],
        }
        node: Conv | UpConv | Perceptron
        if kind == "conv":
            node = Conv(raw, 3, (3, 3), **arguments)
        elif kind == "upconv":
            node = UpConv(raw, 3, (2, 1), **arguments)
        else:
            node = Perceptron(raw, 3, **arguments)
        assert node.gradnet_rate == 1.0
        node.gradnet_rate = rate
        x = torch.randn(4, 2, 5, 6) * 3 + 1
        with torch.no_grad():
            if kind == "conv":
                y = F.conv2d(x, node.w)
            elif kind == "upconv":
                y = F.conv_transpose2d(x, node.w.transpose(0, 1), None, (2, 1))
            else:
                y = torch.einsum("bfyx,fg->bgyx", x, node.w)
        m = y.mean((0, 2, 3), keepdim=True)
        s = y.std((0, 2, 3), keepdim=True, correction=0) + 1e-6
        gamma, b = (torch.tensor(arguments[key]).reshape(-1, 1, 1) for key in ("gamma", "b"))

        def faded(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
            return rate * gamma * (y - rate * mean) / (rate * std + 1 - rate) + b

        node.operation.train()
        assert torch.allclose(node.operation(x), faded(m, s), atol=1e-4)
        # Running statistics are those of the data, however little of them is used.
        assert torch.allclose(node.mean, m.flatten(), atol=1e-5)
        assert torch.allclose(node.std, s.flatten(), atol=1e-5)
        node.mean, node.std = [0.5, 0.0, -1.0], [2.0, 1.0, 3.0]
        stored = (torch.tensor(v).reshape(-1, 1, 1) for v in ([0.5, 0.0, -1.0], [2.0, 1.0, 3.0]))
        assert node(x) == pytest.approx(faded(*stored).numpy(), abs=1e-4)

    def test_fadeout_needs_its_rate(self) -> None:
        with pytest.raises(ModelError, match="'fadeout' follows the gradnet_rate, which needs gradnet_mode=True"):
            Conv(image(6, 6), 3, (3, 3), batch_normalisation="fadeout")
        with pytest.raises(ModelError, match="gradnet_mode must be None, True or a name"):
            Conv(image(6, 6), 3, (3, 3), gradnet_mode=[1])  # type: ignore[arg-type]
        with pytest.raises(ModelError, match="are measured"):
            Conv(image(6, 6), 3, (3, 3), batch_normalisation="fadeout", gradnet_mode=True, std=np.ones(3))
        conv = Conv(image(6, 6), 3, (3, 3), gradnet_mode=True)
        with pytest.raises(ModelError, match="from 0 to 1"):
            conv.gradnet_rate = 1.5
        assert "gradnet_rate" not in Conv(image(6, 6), 3, (3, 3)).variables

    def test_fadeout_in_half_precision(self) -> None:
        conv = Conv(image(6, 6, n_f=2), 3, (3, 3), batch_normalisation="fadeout", gradnet_mode=True)
        conv.gradnet_rate = 0.6
        conv.operation.train()
        x = torch.randn(4, 2, 6, 6)
        with torch.autocast("cpu", torch.bfloat16):
            half = conv.operation(x)
        assert half.dtype == torch.bfloat16
        assert torch.allclose(half.float(), conv.operation(x), atol=0.1)

    def test_misuse(self) -> None:
        with pytest.raises(ModelError, match="are measured"):
            self.layer(mean=np.zeros(3))
        with pytest.raises(ModelError, match="need batch_normalisation"):
            Conv(image(6, 6), 3, (3, 3), gamma=np.ones(3))
        with pytest.raises(ModelError, match="'train', 'predict' or 'fadeout'"):
            Conv(image(6, 6), 3, (3, 3), batch_normalisation="fade")  # type: ignore[arg-type]

    def test_in_perceptrons(self) -> None:
        node = Perceptron(image(4, 5, n_f=3), 7, "lin", batch_normalisation="train")
        node.operation.train()
        y = node.operation(torch.randn(6, 3, 4, 5))
        assert torch.allclose(y.mean((0, 2, 3)), node.b, atol=1e-4)
        assert torch.allclose(y.std((0, 2, 3), correction=0), torch.ones(7), atol=1e-3)


def test_dropout_is_live_inverted_and_off_in_evaluation() -> None:
    torch.manual_seed(0)
    conv = Conv(
        image(40, 40), 5, (1, 1), activation_func="lin", dropout_rate=0.25, w=np.ones((5, 1, 1, 1)), b=np.zeros(5)
    )
    x = torch.ones(3, 1, 40, 40)
    assert np.all(conv(x) == 1)
    conv.operation.train()
    y = conv.operation(x)
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert torch.allclose(y[y != 0], torch.tensor(1 / 0.75))
    conv.dropout_rate = 0.9
    assert conv.variables["dropout_rate"].value == 0.9
    assert float((conv.operation(x) == 0).float().mean()) == pytest.approx(0.9, abs=0.02)
    conv.dropout_rate = 0
    assert torch.all(conv.operation(x) == 1)
    for wrong in (1.0, -0.1, "a", None, float("nan")):
        with pytest.raises(ModelError, match="from 0 below 1"):
            conv.dropout_rate = wrong
    assert conv.dropout_rate == 0
    assert "dropout_rate" not in Conv(image(4, 4), 1, (1, 1)).variables


def test_field_of_view_can_be_marked_as_unknown() -> None:
    conv = Conv(image(9, 9), 2, (3, 3), invalidate_fov=True)
    assert conv.shape.fov == (-1, -1)
    assert conv.shape.offsets == (1, 1)
    assert Conv(conv, 2, (3, 3)).shape.fov == (-1, -1)


def test_dropout_differs_from_example_to_example() -> None:
    torch.manual_seed(0)
    node = Perceptron(Input((None, 1), "b,f"), 400, "lin", dropout_rate=0.5, w=np.ones((1, 400)), b=np.zeros(400))
    node.operation.train()
    dropped = node.operation(torch.ones(2, 1)) == 0
    assert 0.4 < float((dropped[0] == dropped[1]).float().mean()) < 0.6


class TestParameters:
    def test_forms(self) -> None:
        raw = image(5, 5)
        values = np.random.default_rng(0).random((2, 1, 3, 3), dtype=np.float32)
        assert np.array_equal(Conv(raw, 2, (3, 3), w=values).w.detach(), values)
        const = Conv(raw, 2, (3, 3), w=[values, "const"])
        assert not const.w.requires_grad
        assert const.param_count == 2
        assert Conv(raw, 2, (3, 3), w=[values, "trainable"]).w.requires_grad
        first = Conv(raw, 2, (3, 3))
        second = Conv(raw, 2, (3, 3), w=first.w)
        assert second.w is first.w
        assert list(second.params) == ["b"]
        assert second.param_count == 2

    def test_misfits(self) -> None:
        raw = image(5, 5)
        with pytest.raises(ShapeError, match=r"given with the shape \(2, 3\), but needs \(2, 1, 3, 3\)"):
            Conv(raw, 2, (3, 3), w=np.zeros((2, 3)))
        with pytest.raises(ShapeError, match="the shared w"):
            Conv(raw, 3, (3, 3), w=Conv(raw, 2, (3, 3)).w)
        with pytest.raises(ModelError, match="'const'"):
            Conv(raw, 2, (3, 3), b=[np.zeros(2), "frozen"])
        with pytest.raises(ModelError, match="must be an array"):
            Conv(raw, 2, (3, 3), b="zeros")

    def test_get_and_set(self) -> None:
        conv = Conv(image(5, 5), 2, (3, 3))
        values = conv.get_param_values()
        values["b"] += 1
        conv.set_param_values(values)
        assert np.array_equal(conv.b.detach(), values["b"])
        with pytest.raises(ModelError, match=r"no parameter 'bb'.*Did you mean 'b'"):
            conv.set_param_values({"bb": 1})
        with pytest.raises(ModelError, match="has the shape"):
            conv.set_param_values({"b": [1, 2, 3]})


class TestMisfits:
    def test_pooling_names_axis_and_sizes(self) -> None:
        with pytest.raises(ShapeError, match=r"Conv 'conv'.*axis x of size 12 is 9 after filter 4.*11 or 13 would fit"):
            Conv(image(9, 12), 2, (2, 4), (2, 2))

    def test_the_hint_is_about_the_input_of_the_network(self) -> None:
        raw = image(20, 20)
        out = Conv(raw, 2, (3, 3), (2, 2))
        with pytest.raises(
            ShapeError, match=r"axis y of size 9 .* 8 or 10 would fit.*'raw' of y = 18 or 22 \(now 20\)"
        ):
            Pool(out, (2, 2))
        for size in (18, 22):
            Pool(Conv(image(size, size), 2, (3, 3), (2, 2)), (2, 2))

    def test_too_small(self) -> None:
        with pytest.raises(ShapeError, match=r"axis x of size 2 is too small for filter 3; 3 would fit"):
            Conv(image(5, 2), 2, (3, 3))

    def test_wrong_arguments(self) -> None:
        raw = image(9, 9)
        with pytest.raises(ShapeError, match="one entry for each of the 2 spatial axes"):
            Conv(raw, 2, (3, 3, 3))
        with pytest.raises(ShapeError, match="from 1 on"):
            Conv(raw, 2, (3, 0))
        with pytest.raises(ShapeError, match="needs odd filters"):
            Conv(raw, 2, (3, 4), conv_mode="same")
        with pytest.raises(ModelError, match=r"no activation 'rleu'.*Did you mean 'relu'"):
            Conv(raw, 2, (3, 3), activation_func="rleu")
        with pytest.raises(ModelError, match="n_f must be"):
            Conv(raw, 0, (3, 3))
        for n_f in ("a", 2.5, True):
            with pytest.raises(ModelError, match="n_f must be"):
                Conv(raw, n_f, (3, 3))  # type: ignore[arg-type]
        for rate in (1, 1.5, "a"):
            with pytest.raises(ModelError, match=r"Conv 'conv': dropout_rate: .*from 0 below 1"):
                Conv(raw, 2, (3, 3), dropout_rate=rate)  # type: ignore[arg-type]
        with pytest.raises(ModelError, match="parent must be a node"):
            Conv(np.zeros((1, 1, 9, 9)), 2, (3, 3))  # type: ignore[arg-type]
        with pytest.raises(ShapeError, match="needs the axes b, f"):
            Conv(Input((3, 1, 5), "r,f,x"), 2, (3,))
        with pytest.raises(ModelError, match="mode must be one of"):
            Pool(raw, (3, 3), mode="median")  # type: ignore[arg-type]
        with pytest.raises(ShapeError, match=r"axis y of size 9 can't be pooled by 2 in steps of 2; 8 or 10"):
            Pool(raw, (2, 2))
        with pytest.raises(ShapeError, match=r"can't cut 2 × 5 from axis x of size 9; at most 4"):
            Crop(raw, (0, 5))
        with pytest.raises(ModelError, match="without a dot"):
            Conv(raw, 2, (3, 3), name="a.b")
        with pytest.raises(ModelError, match="torch modules use that name"):
            Conv(raw, 2, (3, 3), name="train")

    def test_merging(self) -> None:
        raw = image(9, 9)
        small, large = Conv(raw, 2, (3, 3)), Conv(raw, 3, (1, 1))
        with pytest.raises(ShapeError, match="differ on axis y: 7 and 9"):
            Concat([small, large])
        with pytest.raises(ShapeError, match="differ on axis f: 2 and 3"):
            Add(small, Conv(raw, 3, (3, 3)))
        with pytest.raises(ShapeError, match="unlike strides"):
            Concat([Pool(raw, (3, 3)), Crop(raw, (3, 3))])
        with pytest.raises(ModelError, match="needs a list"):
            Concat(raw)  # type: ignore[arg-type]
        coarse = Pool(raw, (3, 3))
        with pytest.raises(ModelError, match="upconv_n_f is needed"):
            UpConvMerge(raw, coarse)
        with pytest.raises(ShapeError, match="odd number"):
            UpConvMerge(Conv(raw, 1, (2, 2)), coarse, 4)
        with pytest.raises(ModelError, match="merge_mode"):
            UpConvMerge(raw, coarse, 4, "mean")  # type: ignore[arg-type]


def test_merge_by_adding_and_cropping_the_coarse_side() -> None:
    raw = image(12, 12, n_f=4)
    coarse = Pool(raw, (2, 2))
    merged = UpConvMerge(Crop(raw, (2, 2)), coarse, 4, "add")
    assert isinstance(merged, Add)
    assert merged.shape.shape == (None, 4, 8, 8)
    assert merged.shape.offsets == (2, 2)
    x = np.random.default_rng(0).random((1, 4, 12, 12), dtype=np.float32)
    assert merged(x).shape == (1, 4, 8, 8)


def test_concat_and_crop_values() -> None:
    raw = image(5, 6, n_f=2)
    x = np.random.default_rng(0).random((1, 2, 5, 6), dtype=np.float32)
    crop = Crop(raw, (1, 0))
    assert np.array_equal(crop(x), x[:, :, 1:-1])
    assert np.array_equal(Concat([crop, crop], axis="f")(x), np.concatenate([x, x], 1)[:, :, 1:-1])
    assert Concat([raw, raw], axis="x").shape["x"] == 12
    assert np.array_equal(Add(raw, raw)(x), 2 * x)


def test_input_like() -> None:
    conv = Conv(image(12, 12), 3, (3, 3), (2, 2))
    target = Input_like(conv, override_f=1, dtype="int64", name="target")
    assert target.shape.shape == (None, 1, 5, 5)
    assert (target.shape.strides, target.shape.fov, target.shape.offsets) == ((2, 2), (4, 4), (2, 2))
    assert target.dtype == "int64"
    for shifted in (Crop(conv, (1, 2)), UpConv(conv, 1, (2, 2)), Conv(conv, 1, (3, 3), conv_mode="same")):
        assert Input_like(shifted).shape.offsets == shifted.shape.offsets
    assert Input_like(target).dtype == "int64"
    assert Input_like(conv.shape, "float32").shape == conv.shape
    with pytest.raises(ModelError, match="needs a dtype"):
        Input_like(conv.shape)
    with pytest.raises(ModelError, match="needs a node"):
        Input_like(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"no dtype.*Did you mean 'float32'"):
        Input((1, 1), "b,f", dtype="float23")


def test_calls_check_what_they_are_given() -> None:
    conv = Conv(image(9, 9), 2, (2, 2), (2, 2), name="first")
    assert conv(np.zeros((3, 1, 9, 9))).shape == (3, 2, 4, 4)
    assert conv(np.zeros((1, 1, 11, 13))).shape == (1, 2, 5, 6)
    with pytest.raises(ShapeError, match=r"Conv 'first'.*axis x of size 10"):
        conv(np.zeros((1, 1, 9, 10)))
    with pytest.raises(ShapeError, match="axis f has 1 entries"):
        conv(np.zeros((1, 2, 9, 9)))
    with pytest.raises(ShapeError, match="arrays of 4 axes"):
        conv(np.zeros((1, 9, 9)))
    with pytest.raises(ModelError, match=r"needs 1 arrays \(raw\), but got 0"):
        conv()
    fixed = Input((1, 1, 9), "b,f,x", hardcoded_shape=True)
    with pytest.raises(ShapeError, match="axis x has 9 entries"):
        Conv(fixed, 1, (2,))(np.zeros((1, 1, 10)))
    assert conv.test_run().shape == (1, 2, 4, 4)


def test_nodes_say_what_they_are() -> None:
    conv = Conv(image(9, 9), 2, (2, 2), (2, 2), dropout_rate=0.5)
    assert repr(conv).splitlines()[0] == "<Conv-Node> 'conv'"
    assert "#Params=10" in repr(conv)
    assert "kernel 2,2, pool 2,2, relu, dropout 0.5" in repr(conv)
    with pytest.raises(AttributeError, match="no attribute 'weights'"):
        _ = conv.weights
