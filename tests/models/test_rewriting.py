from __future__ import annotations

import copy
import itertools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    AggregateLoss,
    ApplyFunc,
    Concat,
    Conv,
    Errors,
    FragmentsToDense,
    Input,
    Input_like,
    Model,
    Module,
    MultinoulliNLL,
    Node,
    Perceptron,
    Pool,
    Softmax,
    UpConvMerge,
    freeze,
    load_model,
    rebuild_decoder,
    rebuild_model,
    replace_with_input,
    unfreeze,
)


def with_loss(raw: Node, out: Node, **roles: Any) -> Model:
    probs = Softmax(out)
    target = Input_like(probs, override_f=1, dtype="int64", name="target")
    weights = Input_like(probs, override_f=1, name="weights")
    loss = AggregateLoss(MultinoulliNLL(probs, target, True, example_weights=weights), name="loss")
    errors = Errors(probs, target, target_is_sparse=True)
    return Model(raw, target, loss, probs, [loss, errors, probs], errors, name="original", **roles)


def strided(norm: Any = False, size: int = 28, batch: int | None = 1) -> Model:
    torch.manual_seed(3)
    raw = Input((batch, 1, size, size), "b,f,y,x", name="raw")
    out = Conv(raw, 3, (3, 3), (2, 2), batch_normalisation=norm, activation_func="tanh")
    out = Conv(Pool(out, (1, 1)), 4, (4, 4), activation_func="prelu", dropout_rate=0.25)
    out = Pool(Conv(out, 4, (1, 1), batch_normalisation=norm), (2, 2))
    return with_loss(raw, Conv(Perceptron(out, 4), 2, (1, 1), activation_func="lin"))


def u_net(size: int = 20) -> Model:
    torch.manual_seed(3)
    raw = Input((1, 1, 2, size, size), "b,f,z,y,x", name="raw")
    first = Conv(raw, 3, (1, 3, 3), activation_func="tanh")
    low = Conv(Pool(first, (1, 2, 2)), 4, (1, 2, 2))
    low = Conv(low, 4, (1, 2, 2))
    return with_loss(raw, Conv(UpConvMerge(first, low, 5), 2, (1, 1, 1), activation_func="lin"))


def image(*size: int) -> np.ndarray:
    return np.random.default_rng(5).random((1, 1, *size), dtype=np.float32)


def move_statistics(model: Model) -> Model:
    generator = torch.Generator().manual_seed(0)
    for node in model.nodes.values():
        for key in ("gamma", "mean", "std", "b"):
            if key in node.params:
                value = torch.rand(node.params[key].shape, generator=generator) + 0.5
                node.set_param_values({key: value})
    return model


class TestPatchSize:
    @pytest.mark.parametrize("build", [strided, u_net])
    def test_predictions_agree_where_they_overlap(self, build: Any) -> None:
        model = build()
        before = model.input_node.shape.spatial_shape
        wanted = [n + 8 if n > 2 else n for n in before]
        bigger = rebuild_model(model, imposed_patch_size=wanted)
        assert bigger.input_node.shape.spatial_shape == tuple(wanted)
        x = image(*wanted)
        corner = tuple(slice(n) for n in before)
        small, large = model.predict(x[(..., *corner)]), bigger.predict(x)
        assert large.shape == bigger.prediction_node.shape.shape
        inside = tuple(slice(n) for n in small.shape[2:])
        np.testing.assert_allclose(large[(..., *inside)], small, rtol=1e-5, atol=1e-6)

    def test_targets_and_weights_follow(self) -> None:
        bigger = rebuild_model(strided(), imposed_patch_size=(32, 36), imposed_batch_size=3)
        size = bigger.prediction_node.shape.spatial_shape
        assert bigger["target"].shape.spatial_shape == bigger["weights"].shape.spatial_shape == size
        assert bigger["target"].shape["b"] == bigger["raw"].shape["b"] == 3
        for role in ("input_node", "target_node", "loss_node", "prediction_node", "error_node"):
            assert getattr(bigger, role).name == getattr(strided(), role).name
        assert [n.name for n in bigger.prediction_ext] == ["loss", "errors", "softmax"]
        bigger.test_run()

    def test_it_is_as_if_built_anew(self) -> None:
        for rebuilt, new in (
            (rebuild_model(strided(), imposed_patch_size=(36, 36)), strided(size=36)),
            (rebuild_model(u_net(), imposed_patch_size=(2, 28, 28)), u_net(28)),
        ):
            assert rebuilt.describe() == new.describe()
            assert [n.shape for n in rebuilt.nodes.values()] == [n.shape for n in new.nodes.values()]

    @pytest.mark.parametrize(("wanted", "got"), [((29, 28), (28, 28)), ((31, 30), (32, 28)), ((3, 99), (12, 100))])
    def test_snapping(self, wanted: tuple[int, int], got: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO):
            model = rebuild_model(strided(), imposed_patch_size=wanted)
        assert model.input_node.shape.spatial_shape == got
        assert f"patch size on axis y ({wanted[0]}) changed to {got[0]}" in caplog.text
        with pytest.raises(
            ShapeError, match=rf"{wanted[0]}, .* nearest that fits is \({got[0]}, {got[1]}\).*axis"
        ) as e:
            rebuild_model(strided(), imposed_patch_size=wanted, exact=True)
        assert e.value.axis == "y"

    def test_snapping_with_up_convolutions(self) -> None:
        for n in range(8, 40):
            model = rebuild_model(u_net(), imposed_patch_size=(3, n, 20))
            got = model.input_node.shape["y"]
            model.test_run()
            for closer in range(n - abs(got - n) + 1, n + abs(got - n)):
                with pytest.raises(ShapeError):
                    u_net_of(closer)

    def test_what_is_no_size(self) -> None:
        for size in ((3,), (0, 3), (1.5, 3), "ab", 3):
            with pytest.raises(ModelError, match=r"imposed_patch_size must.*whole number"):
                rebuild_model(strided(), imposed_patch_size=size)  # type: ignore[arg-type]
        with pytest.raises(ModelError, match="imposed_batch_size must be"):
            rebuild_model(strided(), imposed_batch_size=0)
        raw = Input((1, 2, 8), "b,f,x", name="raw")
        flat = Model(raw, prediction_node=Perceptron(raw, 3, flatten=True))
        with pytest.raises(ShapeError, match=r"was made for 16 values|No size"):
            rebuild_model(flat, imposed_patch_size=(9,))


def u_net_of(n: int) -> Model:
    raw = Input((1, 1, 3, n, 20), "b,f,z,y,x", name="raw")
    first = Conv(raw, 3, (1, 3, 3), activation_func="tanh")
    low = Conv(Conv(Pool(first, (1, 2, 2)), 4, (1, 2, 2)), 4, (1, 2, 2))
    return with_loss(raw, Conv(UpConvMerge(first, low, 5), 2, (1, 1, 1), activation_func="lin"))


class TestFragments:
    def test_the_dense_output_is_that_of_all_shifts(self) -> None:
        model = strided()
        dense = rebuild_model(model, imposed_patch_size=(31, 27), override_mfp_to_active=True)
        assert isinstance(dense["to_dense"], FragmentsToDense)
        assert dense.prediction_node.shape.strides == (1, 1)
        size = dense.input_node.shape.spatial_shape
        x = image(*size)  # type: ignore[arg-type]
        result = dense.predict(x)
        assert result.shape == dense.prediction_node.shape.shape
        fov, strides = model.prediction_node.shape.fov, model.prediction_node.shape.strides
        expected = np.full_like(result, np.nan)
        for shift in itertools.product(*(range(s) for s in strides)):
            cut = []
            for n, f, s, o in zip(size, fov, strides, shift, strict=True):
                count = (n - o - f) // s + 1  # type: ignore[operator]
                cut.append(slice(o, o + (count - 1) * s + f))
            place = tuple(slice(o, None, s) for o, s in zip(shift, strides, strict=True))
            expected[(..., *place)] = model.predict(x[(..., *cut)])
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)

    def test_the_loss_takes_a_dense_target(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        strided(batch=None).save(path)
        dense = load_model(path, override_mfp_to_active=True, imposed_batch_size=1)
        assert dense["target"].shape.spatial_shape == dense.prediction_node.shape.spatial_shape
        assert dense["target"].shape.strides == (1, 1)
        dense.test_run()
        dense.save(path)
        again = load_model(path)
        assert again.describe() == dense.describe()
        x = image(*dense.input_node.shape.spatial_shape)  # type: ignore[arg-type]
        np.testing.assert_array_equal(again.predict(x), dense.predict(x))

    def test_a_prediction_that_is_no_softmax(self) -> None:
        raw = Input((1, 1, 9, 9), "b,f,y,x", name="raw")
        model = Model(raw, prediction_node=Conv(Conv(raw, 3, (2, 2), (2, 2)), 2, (3, 3), activation_func="sig"))
        dense = rebuild_model(model, override_mfp_to_active=True)
        assert dense.prediction_node.name == "to_dense"
        assert dense.prediction_node.shape.strides == (1, 1)
        dense.test_run()

    def test_nothing_to_pool_and_networks_that_can_not(self, caplog: pytest.LogCaptureFixture) -> None:
        raw = Input((1, 1, 9), "b,f,x", name="raw")
        with caplog.at_level(logging.INFO):
            model = rebuild_model(Model(raw, prediction_node=Conv(raw, 2, (3,))), override_mfp_to_active=True)
        assert "no pooling" in caplog.text
        assert list(model.nodes) == ["raw", "conv"]
        with pytest.raises(ModelError):
            rebuild_model(u_net(), override_mfp_to_active=True)


class TestNormalisation:
    @pytest.mark.parametrize("way", ["predict", "const", "fold"])
    def test_the_output_of_evaluation_stays(self, way: Any, tmp_path: Path) -> None:
        model = move_statistics(strided("train"))
        changed = rebuild_model(model, replace_bn=way)
        x = image(28, 28)
        np.testing.assert_allclose(changed.predict(x), model.predict(x), rtol=1e-4, atol=1e-5)
        for layer in ("conv", "conv2"):
            assert changed[layer].batch_normalisation == (False if way == "fold" else "predict")  # type: ignore[attr-defined]
            assert ("gamma" in changed[layer].params) is (way != "fold")
        changed.train()
        changed["conv1"].dropout_rate = 0
        (value,) = changed.compute([changed.prediction_node], {"raw": torch.from_numpy(x)})
        np.testing.assert_allclose(value.detach().numpy(), model.predict(x), rtol=1e-4, atol=1e-5)
        path = tmp_path / "model.safetensors"
        changed.save(path)
        np.testing.assert_array_equal(load_model(path).predict(x), changed.predict(x))
        model.save(path)
        np.testing.assert_array_equal(load_model(path, replace_bn=way).predict(x), changed.predict(x))

    def test_remove(self) -> None:
        model = move_statistics(strided("train"))
        plain = rebuild_model(model, replace_bn="remove")
        assert set(plain["conv"].params) == {"w", "b"}
        assert torch.equal(plain["conv"].w, model["conv"].w)
        assert not np.allclose(plain.predict(image(28, 28)), model.predict(image(28, 28)))

    @pytest.mark.parametrize("kind", ["perceptron", "transposed perceptron", "upconv", "transposed upconv", "prelu"])
    def test_folding_other_layers(self, kind: str) -> None:
        torch.manual_seed(0)
        raw = Input((1, 2, 6, 6), "b,f,y,x", name="raw")
        out: Node
        transposed = kind.startswith("transposed")
        if kind.endswith("perceptron"):
            out = Perceptron(raw, 3, batch_normalisation="train", transpose_w=transposed)
        elif kind == "prelu":
            out = Conv(raw, 3, (2, 2), activation_func="prelu", batch_normalisation="train")
        else:
            low = Pool(raw, (2, 2))
            out = UpConvMerge(raw, low, 3, upconv_kwargs={"batch_normalisation": "train", "transpose_w": transposed})
        model = move_statistics(Model(raw, prediction_node=out))
        folded = rebuild_model(model, replace_bn="fold")
        assert not any("gamma" in node.params for node in folded.nodes.values())
        x = np.random.default_rng(0).normal(size=(1, 2, 6, 6)).astype(np.float32)
        np.testing.assert_allclose(folded.predict(x), model.predict(x), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("way", ["predict", "const", "fold"])
    @pytest.mark.parametrize("rate", [1.0, 0.6, 0.0])
    def test_what_was_faded_out_stays_so_far(self, way: Any, rate: float) -> None:
        raw = Input((1, 2, 6), "b,f,x", name="raw")
        model = Model(raw, prediction_node=Conv(raw, 2, (3,), batch_normalisation="fadeout", gradnet_mode=True))
        model = move_statistics(model)
        model.gradnet_rates = rate
        changed = rebuild_model(model, replace_bn=way)
        assert not changed.batch_normalisation_active
        x = np.random.default_rng(0).normal(size=(1, 2, 6)).astype(np.float32)
        np.testing.assert_allclose(changed.predict(x), model.predict(x), rtol=1e-4, atol=1e-5)

    def test_what_can_not_be_folded_is_held_fast(self, caplog: pytest.LogCaptureFixture) -> None:
        model = move_statistics(strided("train"))
        model["conv"].set_param_values({"gamma": [1.0, -1.0, 2.0]})
        folded = rebuild_model(model, replace_bn="fold")
        assert "negative gamma" in caplog.text
        np.testing.assert_allclose(folded.predict(image(28, 28)), model.predict(image(28, 28)), rtol=1e-4, atol=1e-5)
        raw = Input((1, 2, 6), "b,f,x", name="raw")
        first = Conv(raw, 2, (1,), batch_normalisation="train")
        model = move_statistics(Model(raw, prediction_node=Conv(first, 2, (1,), w=first.w)))
        folded = rebuild_model(model, replace_bn="fold")
        assert folded["conv1"].w is folded["conv"].w
        x = np.random.default_rng(0).normal(size=(1, 2, 6)).astype(np.float32)
        np.testing.assert_allclose(folded.predict(x), model.predict(x), rtol=1e-4, atol=1e-5)

    def test_no_such_way(self) -> None:
        with pytest.raises(ModelError, match=r"replace_bn must be .*Did you mean 'const'"):
            rebuild_model(strided(), replace_bn="cons")  # type: ignore[arg-type]


class TestFreezing:
    def trained(self, model: Model) -> list[str]:
        return [name for name, p in model.module.named_parameters() if p.requires_grad]

    def test_by_number_and_by_name(self, tmp_path: Path) -> None:
        model = strided()
        everything = self.trained(model)
        path = tmp_path / "model.safetensors"
        model.save(path)
        for which, frozen in ((2, ("conv", "conv1")), (True, ("conv",)), (["conv2", "dot"], ("conv2", "dot"))):
            locked = load_model(path, lock_trainable_params=which)
            assert self.trained(locked) == [n for n in everything if n.partition(".")[0] not in frozen]
            assert all(torch.equal(v, model.module.state_dict()[k]) for k, v in locked.module.state_dict().items())
            locked.save(tmp_path / "locked.safetensors")
            assert self.trained(load_model(tmp_path / "locked.safetensors")) == self.trained(locked)
            unlocked = load_model(tmp_path / "locked.safetensors", unlock_all_params=True)
            assert self.trained(unlocked) == everything
        assert self.trained(model) == everything

    def test_on_a_live_model(self) -> None:
        model = strided()
        before = self.trained(model)
        assert freeze(model, 1) == ["conv"]
        assert model.param_count < strided().param_count
        assert freeze(model, ["conv1"]) == ["conv1"]
        assert "conv" in unfreeze(model)
        assert self.trained(model) == before
        with pytest.raises(ModelError, match=r"no node 'covn1'.*Did you mean 'conv1'"):
            freeze(model, ["covn1"])
        with pytest.raises(ModelError, match=r"'pool'.*no parameters"):
            freeze(model, ["pool"])
        with pytest.raises(ModelError, match="from 0 on, not -1"):
            freeze(model, -1)

    def test_constant_weights(self) -> None:
        model = strided("train")
        with pytest.raises(ModelError, match=r"needs replace_bn, because conv, conv2"):
            rebuild_model(model, make_weights_constant=True)
        raw = Input((1, 2, 6), "b,f,x", name="raw")
        fading = Model(raw, prediction_node=Conv(raw, 2, (1,), batch_normalisation="fadeout", gradnet_mode=True))
        with pytest.raises(ModelError, match=r"needs replace_bn, because conv"):
            rebuild_model(fading, make_weights_constant=True)
        constant = rebuild_model(model, make_weights_constant=True, replace_bn="fold")
        assert not self.trained(constant)
        assert constant.param_count == 0
        np.testing.assert_allclose(constant.predict(image(28, 28)), model.predict(image(28, 28)), rtol=1e-4, atol=1e-5)
        with pytest.raises(ModelError, match="can't be together"):
            rebuild_model(model, make_weights_constant=True, unlock_all_params=True)

    def test_constants_that_were_given_become_trainable(self) -> None:
        raw = Input((1, 2, 6), "b,f,x", name="raw")
        model = Model(raw, prediction_node=Conv(raw, 2, (1,), w=[np.eye(2)[..., None], "const"]))
        assert model.param_count == 2
        unlocked = rebuild_model(model, unlock_all_params=True)
        assert unlocked.param_count == 6
        assert torch.equal(unlocked["conv"].w, model["conv"].w)


class TestOtherRewrites:
    def test_functions_and_modules_go_along(self, tmp_path: Path) -> None:
        raw = Input((1, 2, 8), "b,f,x", name="raw")
        module = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 3), torch.nn.BatchNorm1d(3))
        model = Model(raw, prediction_node=ApplyFunc(Module(raw, module), torch.sin))
        bigger = rebuild_model(model, imposed_patch_size=(12,), lock_trainable_params=1)
        assert bigger.prediction_node.shape.spatial_shape == (10,)
        assert bigger.param_count == 0
        assert all(p.requires_grad for p in module.parameters())
        x = np.random.default_rng(0).normal(size=(1, 2, 12)).astype(np.float32)
        np.testing.assert_allclose(bigger.predict(x), model.predict(x), rtol=1e-6)
        path = tmp_path / "model.safetensors"
        model.save(path)
        again = load_model(
            path,
            functions={"apply_func": torch.sin},
            modules={"module": copy.deepcopy(module)},
            imposed_patch_size=(12,),
        )
        np.testing.assert_array_equal(again.predict(x), model.predict(x))
        cut = replace_with_input(model, "module")
        np.testing.assert_array_equal(cut.predict(model["module"](x)), model.predict(x))

    def test_a_module_that_two_nodes_share_is_shared_again(self, tmp_path: Path) -> None:
        raw = Input((1, 2, 8), "b,f,x", name="raw")
        module = torch.nn.Conv1d(2, 2, 1)
        model = Model(raw, prediction_node=Module(Module(raw, module, name="first"), module, name="second"))
        again = rebuild_model(model)
        assert again["first"].params["weight"] is again["second"].params["weight"]
        assert again.param_count == model.param_count
        path = tmp_path / "model.safetensors"
        model.save(path)
        mine = torch.nn.Conv1d(2, 2, 1)
        again = load_model(path, modules={"first": mine, "second": mine})
        x = np.random.default_rng(0).normal(size=(1, 2, 8)).astype(np.float32)
        np.testing.assert_array_equal(again.predict(x), model.predict(x))

    def test_weights_live_values_and_extras_are_kept_and_independent(self) -> None:
        model = strided().eval()
        model["conv1"].dropout_rate = 0.5
        model.extra, model.scaling = {"step": "7"}, {"mean": [1.0]}
        model.prediction_node.feature_names = ("no", "yes")
        again = rebuild_model(model, name="other")
        assert (again.name, again.extra, again.scaling) == ("other", {"step": "7"}, {"mean": [1.0]})
        assert not again.module.training
        assert again["conv1"].dropout_rate == 0.5
        assert again.prediction_node.feature_names == ("no", "yes")
        np.testing.assert_array_equal(again.predict(image(28, 28)), model.predict(image(28, 28)))
        with torch.no_grad():
            again["conv"].w.zero_()
        assert model["conv"].w.abs().sum() > 0

    def test_a_source_in_place_of_a_node(self) -> None:
        model = strided()
        cut = replace_with_input(model, "conv1")
        assert cut.input_node.name == "conv1_input"
        assert "conv" not in cut
        assert cut.input_node.shape == model["conv1"].shape
        assert cut.target_node is cut["target"]
        x = image(28, 28)
        np.testing.assert_allclose(cut.predict(model["conv1"](x)), model.predict(x), rtol=1e-6)
        cut.test_run()

    def test_for_one_child_only(self) -> None:
        raw = Input((1, 2, 6), "b,f,x", name="raw")
        first = Conv(raw, 2, (1,))
        model = Model(raw, prediction_node=Concat([Conv(first, 2, (1,)), first]))
        one = replace_with_input(model, first, "fed", child="conv1")
        assert one.input_node.name == "raw"
        assert {n.name for n in one.prediction_node.input_nodes} == {"fed", "raw"}
        with pytest.raises(ModelError, match="doesn't use"):
            replace_with_input(model, first, child=model["conv"])
        with pytest.raises(ModelError, match="is a source already"):
            replace_with_input(model, "raw")
        with pytest.raises(ModelError, match="no node 'conv9'"):
            replace_with_input(model, "conv9")
        with pytest.raises(ModelError, match="is the prediction itself"):
            replace_with_input(model, "concat")

    def test_a_shared_weight_stays_when_its_owner_goes(self) -> None:
        raw = Input((1, 2, 6), "b,f,x", name="raw")
        first = Conv(raw, 2, (1,), name="first")
        model = Model(raw, prediction_node=Conv(first, 2, (1,), w=first.w, name="second"))
        cut = replace_with_input(model, "first")
        x = np.random.default_rng(0).normal(size=(1, 2, 6)).astype(np.float32)
        np.testing.assert_allclose(cut.predict(model["first"](x)), model.predict(x), rtol=1e-6)

    def test_decoder(self) -> None:
        raw = Input((1, 6), "b,f", name="raw")
        state = Perceptron(Perceptron(raw, 4), 2, "lin", name="state")
        out = Perceptron(Perceptron(state, 4), 6, "lin", name="out")
        model = Model(raw, prediction_node=out, debug_outputs=[state])
        decoder = rebuild_decoder(model, "state")
        assert list(decoder.nodes) == ["state_input", "dot1", "out"]
        x = np.random.default_rng(0).normal(size=(1, 6)).astype(np.float32)
        np.testing.assert_allclose(decoder.predict(state(x)), model.predict(x), rtol=1e-6)
        skip = Model(raw, prediction_node=Concat([out, raw]))
        with pytest.raises(ModelError, match="it needs raw as well"):
            rebuild_decoder(skip, "state")
