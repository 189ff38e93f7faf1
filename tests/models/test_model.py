from __future__ import annotations

import copy
import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    Add,
    AggregateLoss,
    Conv,
    Errors,
    Input,
    Input_like,
    Model,
    MultinoulliNLL,
    Node,
    Perceptron,
    Pool,
    Softmax,
    UpConv,
    UpConvMerge,
)


def build(**arguments: Any) -> Model:
    raw = Input((None, 1, 12, 12), "b,f,y,x", name="raw")
    out = Conv(raw, 4, (3, 3), (2, 2), batch_normalisation="train", dropout_rate=0.5)
    out = Conv(out, 6, (3, 3), activation_func="prelu")
    probs = Softmax(Conv(out, 2, (1, 1), activation_func="lin"))
    target = Input_like(probs, override_f=1, dtype="int64", name="target")
    nll = MultinoulliNLL(probs, target, target_is_sparse=True, class_weights=[1, 2])
    loss = AggregateLoss([nll], name="loss")
    errors = Errors(probs, target, target_is_sparse=True)
    return Model(raw, target, loss, probs, [loss, errors, probs], **arguments)


def feeds(batch: int = 2) -> dict[str, torch.Tensor]:
    return {"raw": torch.rand(batch, 1, 12, 12), "target": torch.randint(0, 2, (batch, 1, 3, 3))}


class TestNames:
    def test_counting(self) -> None:
        raw = Input((1, 1, 9), "b,f,x", name="raw")
        out: Node = raw
        for _ in range(3):
            out = Conv(out, 2, (2,))
        model = Model(raw, prediction_node=out)
        assert list(model.nodes) == ["raw", "conv", "conv1", "conv2"]
        assert [node.name for node in model.nodes.values()] == list(model.nodes)

    def test_names_given_by_hand_go_first(self) -> None:
        raw = Input((1, 1, 9), "b,f,x", name="raw")
        out = Conv(Conv(Conv(raw, 2, (2,)), 2, (2,)), 2, (2,), name="conv1")
        model = Model(raw, prediction_node=Conv(out, 2, (2,), name="conv1"))
        assert list(model.nodes) == ["raw", "conv", "conv3", "conv1", "conv2"]
        assert model["conv1"] is out

    def test_a_trailing_number_is_counted_up(self) -> None:
        raw = Input((1, 1, 9), "b,f,x", name="x9")
        out = Conv(Conv(raw, 2, (2,), name="x9"), 2, (2,), name="x9")
        assert list(Model(raw, prediction_node=out).nodes) == ["x9", "x10", "x11"]

    def test_a_second_model_keeps_the_names_of_the_first(self) -> None:
        model = build()
        again = Model(model.input_node, prediction_node=Conv(model["conv1"], 3, (1, 1)))
        assert again["conv1"] is model["conv1"]
        assert again.prediction_node.name == "conv2"

    def test_access(self) -> None:
        model = build()
        assert model[0] is model.input_node
        assert model["conv1"].n_f == 6
        assert len(model) == 9
        assert "conv1" in model
        with pytest.raises(KeyError, match=r"no node 'covn1'.*'conv"):
            model["covn1"]


class TestRoles:
    def test_parameters_are_under_their_nodes(self) -> None:
        model = build()
        assert list(model.module.state_dict()) == [
            *(f"conv.{key}" for key in ("w", "b", "gamma", "mean", "std", "updates")),
            *("conv1.w", "conv1.b", "conv2.w", "conv2.b"),
        ]
        assert model.param_count == (36 + 4 + 4) + (4 * 6 * 9 + 12) + (12 + 2)
        assert model["conv"].w is model.module.get_parameter("conv.w")

    def test_parameter_groups(self) -> None:
        model = build()
        decay, no_decay = model.parameter_groups()
        assert (decay["name"], decay["weight_decay_scale"]) == ("decay", 1.0)
        assert (no_decay["name"], no_decay["weight_decay_scale"]) == ("no_decay", 0.0)
        assert {id(p) for p in decay["params"]} == {id(model[n].w) for n in ("conv", "conv1", "conv2")}
        assert len(decay["params"]) + len(no_decay["params"]) == len(list(model.module.parameters()))
        torch.optim.AdamW(model.parameter_groups(), lr=1e-3)

    def test_frozen_and_shared_parameters_are_in_no_group_twice(self) -> None:
        raw = Input((1, 2, 9), "b,f,x", name="raw")
        first = Conv(raw, 2, (1,), b=[np.zeros(2), "const"])
        model = Model(raw, prediction_node=Conv(first, 2, (1,), w=first.w))
        assert [len(g["params"]) for g in model.parameter_groups()] == [1, 1]
        assert model.param_count == 4 + 2

    def test_description(self) -> None:
        model = build()
        descriptions = {d.name: d for d in model.describe()}
        assert list(descriptions) == list(model.nodes)
        conv = descriptions["conv"]
        assert (conv.kind, conv.parents, conv.shape, conv.tags) == ("Conv", ["raw"], [None, 4, 5, 5], "b,f,y,x")
        assert (conv.fov, conv.strides, conv.offsets, conv.params) == ([4, 4], [2, 2], [2, 2], 44)
        assert conv.detail == "4 features, kernel 3,3, pool 2,2, relu, batch norm train, dropout 0.5"
        assert descriptions["loss"].shape == [1]

    def test_variables(self) -> None:
        model = build()
        assert set(model.variables) == {"conv.dropout_rate", "nll.class_weights", "loss.mixing_weights"}
        model.variables["conv.dropout_rate"].value = 0.1
        assert model["conv"].dropout_rate == 0.1

    def test_output_after_upconv_is_centred(self) -> None:
        raw = Input((1, 1, 14), "b,f,x", name="raw")
        coarse = Pool(Conv(raw, 2, (3,)), (4,))
        out = UpConv(coarse, 2, (4,))
        target = Input_like(out, name="target")
        assert out.shape.fov == (-1,)
        Model(raw, target, AggregateLoss(Add(out, target)), out)
        for node in (out, target):
            assert node.shape.offsets == (1,)
            assert node.shape.fov == (2,)
        with pytest.raises(ShapeError, match=r"can't be centred.* leaves 3 voxels"):
            Model(raw, prediction_node=UpConv(coarse, 2, (2,)))

    def test_even_fields_of_view_are_reported(self, caplog: pytest.LogCaptureFixture) -> None:
        raw = Input((1, 1, 9), "b,f,x", name="raw")
        with caplog.at_level(logging.WARNING):
            Model(raw, prediction_node=Conv(raw, 1, (2,)))
        assert "even" in caplog.text

    def test_wrong_roles(self) -> None:
        raw = Input((1, 1, 9), "b,f,x", name="raw")
        other = Input((1, 1, 9), "b,f,x", name="other")
        conv = Conv(raw, 2, (3,))
        with pytest.raises(ModelError, match="input_node must be one Input"):
            Model(conv, prediction_node=conv)
        with pytest.raises(ModelError, match="doesn't depend on the input"):
            Model(other, prediction_node=conv)
        with pytest.raises(ShapeError, match="put it into an AggregateLoss"):
            Model(raw, prediction_node=conv, loss_node=conv)
        with pytest.raises(ModelError, match="doesn't depend on the target"):
            Model(raw, prediction_node=conv, loss_node=AggregateLoss(conv), target_node=other)
        with pytest.raises(ModelError, match="must be a list of nodes"):
            Model(raw, prediction_node=conv, prediction_ext=conv)  # type: ignore[arg-type]
        with pytest.raises(ModelError, match="needs a prediction_node or a loss_node"):
            Model(raw)
        with pytest.raises(ModelError, match="must be one node"):
            Model(raw, prediction_node=3)  # type: ignore[arg-type]


class TestCompute:
    def test_gradients_reach_all_parameters(self) -> None:
        model = build().train()
        (loss,) = model.compute([model.loss_node], feeds())  # type: ignore[list-item]
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.module.parameters())

    def test_several_nodes_and_intermediate_ones(self) -> None:
        model = build().eval()
        batch = feeds()
        nodes = [model["conv1"], model.prediction_node, model["loss"], model["raw"], model["conv1"]]
        values = model.compute(nodes, batch)
        assert [tuple(v.shape) for v in values] == [(2, 6, 3, 3), (2, 2, 3, 3), (1,), (2, 1, 12, 12), (2, 6, 3, 3)]
        assert np.array_equal(values[1].detach().numpy(), model.predict(batch["raw"]))
        assert np.array_equal(values[2].detach().numpy(), model["loss"](batch["raw"], batch["target"]))

    def test_training_learns(self) -> None:
        torch.manual_seed(0)
        model = build()
        model["conv"].dropout_rate = 0
        optimiser = torch.optim.AdamW(model.parameter_groups(), lr=0.01)
        x = torch.rand(16, 1, 12, 12)
        # Is the middle of the 6 × 6 field of view brighter than usual?
        target = (torch.nn.functional.avg_pool2d(x[:, :, 3:-3, 3:-3], 2, 2) > 0.5).long()
        losses = []
        for _ in range(150):
            (loss,) = model.compute([model["loss"]], {"raw": x, "target": target})
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < 0.6 * losses[0]

    def test_modes(self) -> None:
        model = build().train()
        x = np.random.default_rng(0).random((1, 1, 12, 12), dtype=np.float32)
        assert np.array_equal(model.predict(x), model.predict(x))
        assert model.module.training
        batch = {"raw": torch.from_numpy(x)}
        first, second = (model.compute([model.prediction_node], batch)[0] for _ in range(2))
        assert not torch.equal(first, second)  # dropout
        model.eval()
        assert np.array_equal(model.compute([model.prediction_node], batch)[0].detach().numpy(), model.predict(x))

    def test_missing_and_misfitting_inputs(self) -> None:
        model = build()
        batch = feeds()
        with pytest.raises(ModelError, match=r"input 'target' is missing .*: raw, tragte\. Did you mean 'tragte'"):
            model.compute([model["loss"]], {"raw": batch["raw"], "tragte": batch["target"]})
        with pytest.raises(ShapeError, match=r"Conv 'conv' .*axis x of size 11"):
            model.compute([model["loss"]], batch | {"raw": batch["raw"][..., 1:]})
        with pytest.raises(ShapeError, match=r"target .* must have size 3 on axis x"):
            model.compute([model["loss"]], batch | {"target": batch["target"][..., 1:]})
        with pytest.raises(ShapeError, match="must have size 2 on axis b"):
            model.compute([model["loss"]], batch | {"target": batch["target"][:1]})

    def test_an_error_of_torch_names_the_node(self) -> None:
        model = build()
        with pytest.raises(RuntimeError) as caught:
            model.compute([model["conv1"]], {"raw": torch.zeros(1, 1, 12, 12, dtype=torch.float64)})
        assert any("Conv 'conv'" in note for note in caught.value.__notes__)

    def test_test_run(self) -> None:
        model = build().train()
        values = model.test_run()
        assert {name: v.shape for name, v in values.items()}["softmax"] == (1, 2, 3, 3)
        assert model.module.training
        model["conv1"].operation.pool = (3, 3)
        with pytest.raises(ShapeError, match=r"Conv 'conv1'.*declares the shape"):
            model.test_run()


class TestModule:
    def test_it_is_an_ordinary_module(self) -> None:
        model = build().eval()
        x = torch.rand(2, 1, 12, 12)
        with torch.no_grad():
            expected = model.module(x)
            clone = copy.deepcopy(model.module)
            for parameter in model.module.parameters():
                parameter.zero_()
            assert torch.equal(clone(x), expected)
            assert not torch.equal(model.module(x), expected)
            model.module.load_state_dict(clone.state_dict())
            assert torch.equal(model.module(x), expected)
        assert np.array_equal(model.predict(x), expected.numpy())

    def test_it_can_be_exported(self) -> None:
        model = build().eval()
        x = torch.rand(2, 1, 12, 12)
        program = torch.export.export(model.module, (x,))
        assert torch.allclose(program.module()(x), model.module(x))

    def test_channels_last(self) -> None:
        raw = Input((2, 3, 4, 8, 8), "b,f,z,y,x", name="raw")
        low = Conv(Pool(raw, (1, 2, 2)), 4, (1, 3, 3), batch_normalisation="train")
        probs = Softmax(Conv(UpConvMerge(raw, low, 4), 2, (1, 1, 1), activation_func="lin"))
        target = Input_like(probs, override_f=1, dtype="int64", name="target")
        loss = AggregateLoss(MultinoulliNLL(probs, target, True))
        model = Model(raw, target, loss, probs)
        batch = {"raw": torch.rand(2, 3, 4, 8, 8), "target": torch.randint(0, 2, target.shape.shape)}  # type: ignore[arg-type]
        (before,) = model.compute([loss], batch)
        model.to(memory_format=torch.channels_last_3d)
        assert model["conv"].w.is_contiguous(memory_format=torch.channels_last_3d)
        (value,) = model.compute([loss], batch)
        assert value.item() == pytest.approx(before.item(), rel=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            activation, half = model.compute([low, loss], batch)
            # Without bf16 in hardware torch's own convolution leaves the format, too.
            plain = torch.nn.Conv3d(3, 4, (1, 3, 3)).to(memory_format=torch.channels_last_3d)
            expected = plain(batch["raw"].to(memory_format=torch.channels_last_3d))
        assert activation.dtype == torch.bfloat16
        last = torch.channels_last_3d
        assert activation.is_contiguous(memory_format=last) == expected.is_contiguous(memory_format=last)
        half.backward()
        assert half.dtype == torch.float32
        assert half.item() == pytest.approx(before.item(), rel=0.05)
        assert all(torch.isfinite(p.grad).all() for p in model.module.parameters() if p.grad is not None)
        with torch.autocast("cpu", torch.bfloat16):
            assert model.predict(np.zeros((1, 3, 4, 8, 8))).dtype == np.float32

    def test_channels_last_strides_where_both_formats_fit(self) -> None:
        """With one channel strides are ambiguous; the wrong ones cost a fifth of a training step."""
        raw = Input((1, 1, 2, 8, 8), "b,f,z,y,x", name="raw")
        model = Model(raw, prediction_node=Conv(raw, 4, (1, 3, 3))).to(memory_format=torch.channels_last_3d)
        plain = torch.nn.Conv3d(1, 4, (1, 3, 3)).to(memory_format=torch.channels_last_3d)
        assert model["conv"].w.stride() == plain.weight.stride()

    def test_copies_are_independent(self) -> None:
        model = build()
        x = np.random.default_rng(0).random((1, 1, 12, 12), dtype=np.float32)
        clone = copy.deepcopy(model)
        assert np.array_equal(clone.predict(x), model.predict(x))
        clone["conv"].w = clone["conv"].w * 2
        clone["conv"].dropout_rate = 0.1
        assert not np.array_equal(clone.predict(x), model.predict(x))
        assert model["conv"].dropout_rate == 0.5
        assert clone["conv"].operation is clone.module.get_submodule("conv")

    def test_double_precision(self) -> None:
        model = build().to(dtype=torch.float64)
        assert model.predict(np.zeros((1, 1, 12, 12))).dtype == np.float64
        model.test_run()


def test_nothing_global() -> None:
    """Two models built alike don't know of each other."""
    a, b = build(), build()
    assert list(a.nodes) == list(b.nodes)
    a["conv"].dropout_rate = 0.1
    assert b["conv"].dropout_rate == 0.5
    assert not {id(p) for p in a.module.parameters()} & {id(p) for p in b.module.parameters()}


def test_perceptron_networks_have_no_geometry() -> None:
    raw = Input((None, 5), "b,f", name="raw")
    probs = Softmax(Perceptron(Perceptron(raw, 7), 3, "lin"))
    target = Input_like(probs, override_f=1, dtype="int64", name="target")
    loss = AggregateLoss(MultinoulliNLL(probs, target, True))
    model = Model(raw, target, loss, probs)
    model.test_run()
    batch = SimpleNamespace(x=torch.rand(4, 5), t=torch.randint(0, 3, (4, 1)))
    (value,) = model.compute([loss], {"raw": batch.x, "target": batch.t})
    value.backward()
