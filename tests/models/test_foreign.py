"""Functions and torch modules of others as nodes: what is found of their shapes, and what is refused."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    AggregateLoss,
    ApplyFunc,
    Conv,
    GenericInput,
    Input,
    Model,
    Module,
    Node,
    Pool,
    load_model,
)


def image(size: int = 20, batch: int | None = 1, n_f: int = 1) -> Input:
    return Input((batch, n_f, size, size + 2), "b,f,y,x", name="raw")


class UNet(nn.Module):
    """Two levels, padded or not."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 2, 3, padding=padding), nn.BatchNorm2d(2), nn.ReLU())
        self.middle = nn.Conv2d(2, 4, 3, padding=padding)
        self.up = nn.ConvTranspose2d(4, 2, 2, 2)
        self.out = nn.Conv2d(4, 3, 3, padding=padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.down(x)
        x = self.up(self.middle(F.max_pool2d(skip, 2)))
        cut = (skip.shape[-2] - x.shape[-2]) // 2
        return self.out(torch.cat([F.pad(skip, (-cut,) * 4), x], 1))


@pytest.mark.parametrize(
    ("module", "strides", "fov", "centre"),
    [
        (nn.Conv2d(1, 2, (5, 4)), (1, 1), (5, 4), (2, 1.5)),
        (nn.Conv2d(1, 2, 5, padding=2), (1, 1), (5, 5), (0, 0)),
        (nn.Conv2d(1, 2, 3, stride=(3, 2)), (3, 2), (3, 3), (1, 1)),
        (nn.Conv2d(1, 2, 3, dilation=2), (1, 1), (5, 5), (2, 2)),
        (nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 2)), (2, 2), (6, 6), (2.5, 2.5)),
        (nn.ConvTranspose2d(1, 2, 2, 2), (0.5, 0.5), (1, 1), (-0.25, -0.25)),
        (nn.Upsample(scale_factor=3), (1 / 3, 1 / 3), (1, 1), (-1 / 3, -1 / 3)),
        (nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2)), (1, 1), (2, 2), (0, 0)),
        (UNet(1), (1, 1), (10, 10), (0, 0)),
        (nn.AdaptiveAvgPool2d(1), (20, 22), (20, 22), (9.5, 10.5)),
        (nn.GroupNorm(1, 1), (1, 1), (-1, -1), (0, 0)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_geometry_is_found(module: nn.Module, strides: Any, fov: Any, centre: Any) -> None:
    node = Module(image(), module)
    assert node.shape.strides == pytest.approx(strides)
    assert node.shape.fov == fov
    assert node.shape.centre == pytest.approx(centre)
    assert node.test_run().shape == node.shape.shape
    larger = np.ones((3, 1, 24, 28), np.float32)
    assert node(larger).shape == module.eval()(torch.from_numpy(larger)).shape


def test_a_network_of_zeros_has_its_field_of_view() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Threshold(5, 0))
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    assert Module(image(), module).shape.fov == (5, 5)


def swallow(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(torch.nan_to_num(x), 3, 1)


def half_swallow(x: torch.Tensor) -> torch.Tensor:
    return x[..., 2:-2, 2:-2] + F.avg_pool2d(torch.nan_to_num(x), 5, 1)


def on_the_cpu(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.maximum(x.detach().numpy()[..., 1:, :], 0))


@pytest.mark.parametrize(("functor", "fov"), [(swallow, (3, 3)), (half_swallow, (5, 5)), (on_the_cpu, (1, 1))])
def test_functions_that_hide_what_they_see(functor: Any, fov: Any) -> None:
    assert ApplyFunc(image(), functor).shape.fov == fov


LAYERS = st.one_of(
    st.tuples(st.just("conv"), st.integers(1, 4), st.just(1)),
    st.tuples(st.just("same"), st.sampled_from([1, 3, 5]), st.just(1)),
    st.tuples(st.just("max"), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.just("average"), st.integers(1, 3), st.integers(1, 3)),
)


@pytest.mark.parametrize("stride", [9, 11, 25, 27, 49, 81])
def test_strides_that_are_found_by_their_drift(stride: int) -> None:
    raw = Input((1, 1, 2 * stride), "b,f,x", name="raw")
    assert Module(raw, nn.MaxPool1d(1, stride)).shape.strides == (stride,)
    up = Module(raw, nn.Sequential(nn.MaxPool1d(1, stride), nn.Upsample(scale_factor=2)))
    assert up.shape.strides == (stride / 2,)


@settings(max_examples=20, deadline=None)
@given(st.lists(LAYERS, min_size=1, max_size=4), st.integers(2, 4))
def test_random_chains_have_the_geometry_of_the_same_nodes(layers: list[tuple[str, int, int]], size: int) -> None:
    for kind, width, stride in reversed(layers):
        size = size if kind == "same" else (size - 1) * stride + width
    raw = Input((1, 1, size), "b,f,x", name="raw")
    node: Node = raw
    modules: list[nn.Module] = []
    for kind, width, stride in layers:
        if kind in ("conv", "same"):
            n_in = node.shape["f"]
            node = Conv(node, 2, (width,), conv_mode="same" if kind == "same" else "valid")
            modules += [nn.Conv1d(n_in, 2, width, padding=kind if kind == "same" else 0), nn.ReLU()]
        else:
            node = Pool(node, (width,), (stride,), mode=kind)  # type: ignore[arg-type]
            modules.append((nn.MaxPool1d if kind == "max" else nn.AvgPool1d)(width, stride))
    assert Module(raw, nn.Sequential(*modules)).shape == node.shape


def test_geometry_behind_strided_nodes_is_that_of_the_same_nodes() -> None:
    parent = Conv(Input((1, 1, 26, 26), "b,f,y,x", name="raw"), 3, (3, 3), (2, 2))
    module = Module(parent, nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)))
    own = Conv(parent, 4, (3, 3), (2, 2))
    assert module.shape == own.shape
    padded = Module(parent, nn.Conv2d(3, 4, 3, padding=1))
    assert padded.shape == Conv(parent, 4, (3, 3), conv_mode="same").shape


def test_an_unpadded_u_net_is_centred() -> None:
    node = Module(Input((1, 1, 26, 26), "b,f,y,x", name="raw"), UNet(0))
    n = node.shape.spatial_shape[0]
    assert node.shape.centre == ((26 - n) / 2,) * 2
    assert node.shape.offsets == ((26 - n) // 2,) * 2


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, stride=2)

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        fine = self.conv(fine)
        return fine + coarse[..., : fine.shape[-2], : fine.shape[-1]]


def test_several_inputs_of_unlike_resolution() -> None:
    raw = image()
    node = Module([raw, Pool(raw, (2, 2))], Sum())
    # One sees the voxels 0 to 2, the other one 0 to 1.
    assert (node.shape.strides, node.shape.fov, node.shape.centre) == ((2, 2), (3, 3), (1, 1))


def test_heads_and_numbers() -> None:
    raw = image(batch=None)
    head = Module(raw, nn.Sequential(nn.Flatten(), nn.Linear(20 * 22, 7)))
    assert (head.shape.shape, head.shape.tags) == ((None, 7), ("b", "f"))
    loss = Module([raw, Conv(raw, 1, (1, 1))], nn.MSELoss(), name="mse")
    assert loss.shape.shape == ()
    assert ApplyFunc(raw, torch.std, name="deviation").test_run().shape == ()
    decoder = Module(head, nn.Unflatten(1, (1, 7)), tags="b,f,x")
    assert decoder.shape.shape == (None, 1, 7)
    assert Model(raw, loss_node=loss, prediction_node=head).predict(np.ones((3, 1, 20, 22))).shape == (3, 7)


def test_probing_leaves_no_trace() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.MaxPool2d(2))
    module[1].eval()
    before = copy.deepcopy(module.state_dict())
    torch.manual_seed(0)
    state = torch.get_rng_state()
    node = Module(image(), module)
    node.test_run()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert [m.training for m in module] == [True, False, True, True]
    assert all(p.grad is None for p in module.parameters())


def test_parameters_have_their_dotted_names() -> None:
    node = Module(image(), nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), name="net")
    assert {"0.weight", "0.bias", "1.weight", "1.running_mean"} <= node.params.keys()
    assert node.param_count == 18 + 2 + 4
    model = Model(node.parents[0], loss_node=AggregateLoss(node), prediction_node=node)
    groups = {group["name"]: group["params"] for group in model.parameter_groups()}
    assert [p.ndim for p in groups["decay"]] == [4]
    assert [p.ndim for p in groups["no_decay"]] == [1, 1, 1]
    assert node.computational_cost == 18 * 18 * 20


def test_stored_values_go_into_the_module_that_is_given_again(tmp_path: Path) -> None:
    raw = image()
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    model = Model(raw, prediction_node=Module(raw, module, name="net"))
    path = tmp_path / "model.safetensors"
    model.save(path)
    other = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    again = load_model(path, modules={"net": other})
    assert torch.equal(other[0].weight, module[0].weight)
    x = np.random.default_rng(0).normal(size=(1, 1, 20, 22))
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    with pytest.raises(ModelError, match=r"modules=\{'net'"):
        load_model(path)
    with pytest.raises(ModelError, match=r"net\.0\.weight|0\.weight"):
        load_model(path, modules={"net": nn.Sequential(nn.Conv2d(1, 2, 5), nn.BatchNorm2d(2))})


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"fov": (5, 3)}, "sees 3 voxels of 'raw' on axis y, not 5"),
        ({"strides": (1, 2)}, "stride 1 on axis x, not 2"),
        ({"shape": (1, 2, 18, 21)}, r"shape \(1, 2, 18, 20\), not \(1, 2, 18, 21\)"),
        ({"fov": (3,)}, "one entry for each of the"),
        ({"tags": "b,f"}, "4 sizes"),
        ({"tags": "f,b,y,x"}, "of a batch of 1 it makes 2"),
    ],
)
def test_what_is_given_is_compared(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ShapeError, match=match):
        Module(image(), nn.Conv2d(1, 2, 3), **arguments)


def test_what_is_given_counts_where_nothing_is_found() -> None:
    assert Module(image(), nn.GroupNorm(1, 1), fov=(3, 3), strides=(1, 1)).shape.fov == (3, 3)
    right = Module(image(), nn.Conv2d(1, 2, 3), "b,f,y,x", (None, 2, 18, 20), (3, 3), (1, 1))
    assert right.shape.fov == (3, 3)


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Module(image(), nn.Conv2d(3, 2, 3)), "doesn't take 'raw' .*expected input"),
        (lambda: Module(image(), torch.relu), "a function goes into ApplyFunc"),  # type: ignore[arg-type]
        (lambda: Module(image(), Pair()), "returns a tuple"),
        (lambda: Module(image(), nn.LazyConv2d(2, 3)), "run it once on data"),
        (lambda: Module(image(), nn.Flatten(2)), "say what its axes are"),
        (lambda: Module(GenericInput(), nn.Identity()), "parents whose values are tensors"),
        (lambda: ApplyFunc(image(), nn.ReLU()), "use the node Module"),
        (lambda: ApplyFunc(image(), 3), "must be a function"),  # type: ignore[arg-type]
        (lambda: ApplyFunc(image(), torch.sum, kwargs={"dim": 1}), r"shape \(1, 20, 22\); say what"),
        (lambda: ApplyFunc(GenericInput(), len), "shape and tags are needed"),
        (lambda: Module(Input((1, 1, 30, 30), "b,f,y,x"), Halves()), "It takes 32 × 32 voxels"),
    ],
)
def test_refused(make: Any, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        make()


class Halves(nn.Module):
    """Padded, and in need of multiples of 4."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + F.interpolate(F.max_pool2d(x, 4), scale_factor=4)


def test_sizes_that_dont_fit_are_refused_with_the_axis() -> None:
    node = Module(Input((1, 1, 32, 32), "b,f,y,x", name="raw"), Halves())
    assert node(np.ones((1, 1, 36, 32))).shape == (1, 1, 36, 32)
    with pytest.raises(ShapeError, match="doesn't take 'raw'") as caught:
        node(np.ones((1, 1, 34, 32)))
    assert caught.value.axis == "y"


class Skeleton:
    def __init__(self, *points: float) -> None:
        self.points = points


def nearest(position: torch.Tensor, skeleton: Skeleton) -> torch.Tensor:
    return (position - torch.tensor(skeleton.points)).abs().amin(1, keepdim=True)


def test_any_object_can_be_fed_in() -> None:
    raw = Input((1, 1), "b,f", name="raw")
    skeleton = GenericInput("skeleton")
    node = ApplyFunc([raw, skeleton], nearest, shape=(1, 1), tags="b,f")
    assert node([[2.0]], Skeleton(0.0, 5.0)).tolist() == [[2.0]]
    model = Model(raw, prediction_node=node)
    (value,) = model.compute([node], {"raw": torch.tensor([[4.5]]), "skeleton": Skeleton(0.0, 5.0)})
    assert value.item() == 0.5
    assert model.describe()[1].kind == "GenericInput"
    with pytest.raises(ModelError, match="no random ones"):
        node.test_run()


def test_a_large_module_is_sized_without_computing() -> None:
    calls: list[str] = []

    class Counting(nn.Conv3d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(x.device.type)
            return super().forward(x)

    raw = Input((1, 64, 64, 256, 256), "b,f,z,y,x", name="raw")
    node: Node = Module(raw, Counting(64, 64, 3, stride=2))
    assert node.shape.spatial_shape == (31, 127, 127)
    assert node.shape.fov == (3, 3, 3)
    assert "meta" in calls
    assert node.computational_cost == 64 * 64 * 27 * math.prod((31, 127, 127))


def test_a_declared_size_holds_no_other_patch_back() -> None:
    node = Module(image(), nn.Conv2d(1, 2, 3), shape=(1, 2, 18, 20))
    assert "shape" not in node.arguments
    model = Model(node.parents[0], prediction_node=node)
    assert model.test_run()["module"].shape == (1, 2, 18, 20)
    objects = ApplyFunc([node, GenericInput()], torch.add, shape=(1, 2, 18, 20), tags="b,f,y,x")
    model = Model(node.parents[0], prediction_node=objects)
    with pytest.raises(ModelError, match="no random ones"):
        model.test_run()
