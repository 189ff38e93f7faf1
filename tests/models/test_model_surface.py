"""What a model tells and lets be set: roles by name, statistics, times, live values, parameters, its description."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError
from elektronn_tui.models import (
    GRU,
    LRN,
    AggregateLoss,
    Conv,
    Errors,
    Input,
    Input_like,
    Model,
    MultinoulliNLL,
    Perceptron,
    Pool,
    Softmax,
    UpConvMerge,
)


def build(**roles: Any) -> Model:
    torch.manual_seed(0)
    raw = Input((None, 1, 12, 12), "b,f,y,x", name="raw")
    out = Conv(raw, 4, (3, 3), (2, 2), batch_normalisation="train", dropout_rate=0.5)
    out = Conv(out, 6, (3, 3), activation_func="prelu", dropout_rate=0.25)
    probs = Softmax(Conv(out, 2, (1, 1), activation_func="lin"))
    target = Input_like(probs, override_f=1, dtype="int64", name="target")
    nll = MultinoulliNLL(probs, target, target_is_sparse=True)
    loss = AggregateLoss([nll, nll], name="loss")
    errors = Errors(probs, target, target_is_sparse=True)
    given = {
        "input_node": raw,
        "target_node": target,
        "loss_node": loss,
        "prediction_node": probs,
        "prediction_ext": [loss, errors, probs],
        "debug_outputs": [nll],
    }
    return Model(**(given | roles))


def batch(n: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((n, 1, 12, 12), dtype=np.float32), rng.integers(0, 2, (n, 1, 3, 3))


class TestRoles:
    def test_by_name(self) -> None:
        model = build(
            input_node="raw",
            target_node="target",
            prediction_node="softmax",
            prediction_ext=["loss", "softmax"],
            debug_outputs=["nll"],
        )
        assert model.input_node is model["raw"]
        assert model.target_node is model["target"]
        assert [n.name for n in model.prediction_ext] == ["loss", "softmax"]
        assert model.debug_output_names == ["nll"]

    def test_names_that_are_unknown_or_not_unique(self) -> None:
        with pytest.raises(ModelError, match=r"prediction_node: none .* called 'sofmax'.*Did you mean 'softmax'"):
            build(prediction_node="sofmax")
        with pytest.raises(ModelError, match="prediction_node: 3 nodes are called 'conv'"):
            build(prediction_node="conv")

    def test_children(self) -> None:
        model = build()
        assert list(model.children("conv")) == ["conv1"]
        assert set(model.children(model["softmax"])) == {"nll", "errors"}
        assert list(model.all_children("conv2")) == ["conv2", "softmax", "nll", "loss", "errors"]


class TestValues:
    def test_loss_predictions_and_activations(self) -> None:
        model = build()
        x, t = batch()
        assert model.loss(x, t) == model["loss"](x, t)[0]
        loss, errors, probs = model.predict_ext(x, t)
        assert loss[0] == pytest.approx(model.loss(x, t))
        assert errors.shape == (1,)
        np.testing.assert_array_equal(probs, model.predict(x))
        values = model.activations(x, t)
        assert set(values) == {"conv", "conv1", "conv2", "softmax", "nll", "loss"}
        np.testing.assert_array_equal(values["conv1"], model["conv1"](x))
        with pytest.raises(ModelError, match=r"2 arrays \(raw, target\), not 1"):
            model.activations(x)
        assert [s.text for s in model.loss_input_shapes] == [model["raw"].shape.text, model["target"].shape.text]

    def test_gradients_leave_nothing_behind(self) -> None:
        model = build().train()
        before = {k: v.clone() for k, v in model.module.state_dict().items()}
        state = torch.get_rng_state()
        torch.manual_seed(3)
        found = model.gradients(*batch())
        torch.manual_seed(3)
        (loss,) = model.compute(
            [model["loss"]], {k: torch.from_numpy(v) for k, v in zip(("raw", "target"), batch(), strict=True)}
        )
        loss.backward()
        assert set(found) == {name for name, _ in model.module.named_parameters()}
        for name, parameter in model.module.named_parameters():
            np.testing.assert_allclose(found[name], parameter.grad, rtol=1e-5, atol=1e-7)
        model = build().train()
        torch.set_rng_state(state)
        model.gradients(*batch())
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
        assert all(p.grad is None for p in model.module.parameters())
        assert model.module.training

    def test_gradients_by_finite_differences(self) -> None:
        model = build().to(dtype=torch.float64).eval()
        found = model.gradients(*batch())["conv1.w"]
        w = model["conv1"].w
        index = np.unravel_index(np.abs(found).argmax(), found.shape)
        with torch.no_grad():
            w[index] += 1e-5
            up = model.loss(*batch())
            w[index] -= 2e-5
            down = model.loss(*batch())
        assert found[index] == pytest.approx((up - down) / 2e-5, rel=1e-4)

    def test_statistics(self) -> None:
        model = build()
        x, t = batch()
        for table, values in (
            (model.paramstats(), {k: v.detach().numpy() for k, v in model.module.named_parameters()}),
            (model.actstats(x, t), model.activations(x, t)),
            (model.eval().gradstats(x, t), model.gradients(x, t)),
        ):
            assert list(table) == list(values)
            for name, value in values.items():
                assert table[name]["shape"] == value.shape
                assert table[name]["mean"] == pytest.approx(value.mean(), rel=1e-4, abs=1e-6)
                assert table[name]["std"] == pytest.approx(value.std(), rel=1e-4, abs=1e-6)
                median = np.sort(np.abs(value).ravel())[(value.size - 1) // 2]
                assert table[name]["median_abs"] == pytest.approx(median, rel=1e-5)
                assert name in repr(table)
        assert len(model.gradstats()) == 0

    def test_without_a_loss(self) -> None:
        raw = Input((1, 4), "b,f", name="raw")
        model = Model(raw, prediction_node=Perceptron(raw, 2))
        assert set(model.activations(np.zeros((1, 4)))) == {"dot"}
        for call in (model.loss, model.gradients):
            with pytest.raises(ModelError, match="no loss_node"):
                call(np.zeros((1, 4)))
        with pytest.raises(ModelError, match="no prediction_ext"):
            model.predict_ext(np.zeros((1, 4)))
        with pytest.raises(ModelError, match="no AggregateLoss"):
            _ = model.mixing


class TestLive:
    def test_rates(self) -> None:
        model = build()
        assert model.dropout_rates == [0.5, 0.25]
        model.dropout_rates = 0
        assert model["conv"].dropout_rate == model["conv1"].dropout_rate == 0
        model.dropout_rates = [0.1, 0.2]
        assert model["conv1"].dropout_rate == 0.2
        with pytest.raises(ModelError, match=r"2 nodes have a dropout_rate \(conv, conv1\), but 1"):
            model.dropout_rates = [0.1]
        with pytest.raises(ModelError, match="must be a number from 0 below 1"):
            model.dropout_rates = [0.3, 2]
        assert model.dropout_rates == [0.1, 0.2]
        assert model.gradnet_rates == []

    def test_mixing(self) -> None:
        model = build()
        assert model.mixing == [1, 1]
        model.mixing = [1, 3]
        assert model["loss"].mixing_weights == [1, 3]

    def test_normalisation_and_names(self) -> None:
        model = build()
        assert model.batch_normalisation_active
        assert model.prediction_feature_names is None
        model.prediction_node.feature_names = ["inside", "membrane"]
        assert model.prediction_feature_names == ("inside", "membrane")
        for names in (["a"], "ab", [1, 2]):
            with pytest.raises(ModelError, match="needs 2 feature names"):
                model.prediction_node.feature_names = names
        with pytest.raises(ModelError, match="no f axis"):
            Input((1, 2), "b,x").feature_names = ["a"]

    def test_parameters_by_node(self) -> None:
        model, other = build(), build()
        with torch.no_grad():
            for parameter in model.module.parameters():
                parameter.add_(1)
        model["conv2"].w.requires_grad_(False)
        values = model.get_param_values()
        assert {name: set(own) for name, own in values.items()}["conv"] == {"w", "b", "gamma", "mean", "std"}
        assert set(model.get_param_values(skip_const=True)["conv"]) == {"w", "b", "gamma"}
        assert set(model.get_param_values(skip_const=True)["conv2"]) == {"b"}
        other.set_param_values(values)
        np.testing.assert_array_equal(other.predict(batch()[0]), model.predict(batch()[0]))
        third = build()
        third.set_param_values(values, skip_const=True)
        assert torch.equal(third["conv"].mean, build()["conv"].mean)
        bad = {"conv": {"w": values["conv"]["w"] * 2}, "conv1": {"w": np.zeros(3)}}
        with pytest.raises(ModelError, match=r"'conv1'.*w has the shape"):
            other.set_param_values(bad)
        np.testing.assert_array_equal(other["conv"].w.detach().numpy(), values["conv"]["w"])
        with pytest.raises(ModelError, match="no node 'covn'"):
            other.set_param_values({"covn": {}})

    def test_parameters_of_ancestors(self) -> None:
        model = build()
        node = model["conv1"]
        assert set(node.all_params) - set(node.all_trainable_params) == set(node.all_nontrainable_params)
        assert set(node.all_nontrainable_params) == {"conv.mean", "conv.std"}
        assert node.all_params_count == model["conv"].param_count + node.param_count
        assert model["loss"].all_params_count == model.param_count
        assert node.all_computational_cost == model["conv"].computational_cost + node.computational_cost


class TestDebugOutputs:
    def test_of_a_gru(self, caplog: pytest.LogCaptureFixture) -> None:
        x = Input((1, 1), "b,f", name="x")
        memory = Input((1, 1), "b,f", name="memory")
        gru = GRU(Perceptron(x, 1, "lin", w=[[1.0]], b=[0.0]), memory, 1, w=np.full((2, 3), 0.5), b=np.zeros(3))
        values = gru.get_debug_outputs([[1.0]], [[0.2]])
        assert set(values) == {"memory", "out", "z", "r"}
        assert values["z"].item() == pytest.approx(0.645656, abs=1e-6)
        assert values["out"].item() == pytest.approx(0.401030, abs=1e-6)
        np.testing.assert_array_equal(values["out"], gru([[1.0]], [[0.2]]))
        with pytest.raises(ModelError, match="needs 2 arrays, but got 1"):
            gru.get_debug_outputs([[1.0]])
        assert x.get_debug_outputs([[1.0]]) == {}
        assert "no debug outputs" in caplog.text

    def test_of_local_response_normalisation(self) -> None:
        raw = Input((1, 1, 5), "b,f,x", name="raw")
        values = LRN(raw, (3,)).get_debug_outputs(np.full((1, 1, 5), 2.0))
        assert values["m"][0, 0, 2] == pytest.approx(4)
        assert values["divisor"][0, 0, 2] == pytest.approx(1.0004**0.75)


class TestTimes:
    @pytest.mark.parametrize("backward", [False, True])
    def test_every_operation_is_timed(self, backward: bool) -> None:
        model = build().train()
        before = {k: v.clone() for k, v in model.module.state_dict().items()}
        times = model.measure_exectimes(2, 1, backward=backward)
        assert set(times) == {n.name for n in model.nodes.values() if not n.is_source}
        assert all(t >= 0 for t in times.values())
        assert times["conv"] > 0
        assert model.module.training
        assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
        assert all(p.grad is None for p in model.module.parameters())

    def test_of_a_node(self) -> None:
        model = build()
        assert model["conv"].measure_exectime(1, 0) > 0
        assert model["softmax"].measure_exectime(1, 0, local=False) > 0
        assert model["raw"].measure_exectime(1, 0) == 0
        for wrong in ({"n_samples": 0}, {"n_warmup": -1}, {"n_samples": 1.5}):
            with pytest.raises(ModelError, match=r"must be a whole number from \d on"):
                model.measure_exectimes(**wrong)  # type: ignore[arg-type]


class TestDescription:
    def test_the_whole_model(self) -> None:
        model = build()
        model.prediction_node.feature_names = ("inside", "membrane")
        text = str(model)
        assert text == model.description
        lines = text.splitlines()
        assert max(map(len, lines)) <= 100
        for node in model.nodes.values():
            assert sum(line.startswith(node.name + " ") for line in lines) == 1
        row = next(line for line in lines if line.startswith("conv ")).split()
        assert row == ["conv", "Conv", "?×4×5×5", "bfyx", "4,4", "2,2", "2,2", "44", "3.6", "k"]
        assert f"{model.param_count:,} trainable parameters" in text
        assert "Ops for each voxel of the prediction" in text
        assert "prediction_node softmax" in text
        assert "inside, membrane" in text
        assert "prediction_ext  loss, errors, softmax" in text

    def test_up_convolutions_and_long_names(self) -> None:
        raw = Input((1, 1, 12, 12, 12), "b,f,z,y,x", name="raw_images_of_a_large_volume")
        low = Pool(raw, (1, 2, 2))
        out = UpConvMerge(raw, low, 1000, name="an_extremely_long_name_of_a_merge")
        model = Model(raw, prediction_node=out)
        assert max(map(len, model.description.splitlines())) <= 100
        assert "raw_images_of_a_l…" in model.description

    def test_cost_for_each_voxel(self) -> None:
        raw = Input((2, 1, 10), "b,f,x", name="raw")
        model = Model(raw, prediction_node=Conv(raw, 3, (3,), activation_func="lin"))
        assert "9 Ops for each voxel" in model.description
