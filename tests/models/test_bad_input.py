"""Bad input to the network library: a typed error each, whose message says where, what and what would be right."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from elektronn_tui.errors import ElektronnError, ModelError
from elektronn_tui.models import (
    GRU,
    AbsLoss,
    Add,
    AggregateLoss,
    ApplyFunc,
    AutoMerge,
    BinaryNLL,
    Classification,
    ClassScores,
    Concat,
    Conv,
    Crop,
    DiceLoss,
    Errors,
    FaithlessMerge,
    FocalNLL,
    FromTensor,
    GaussianRV,
    InitialState_like,
    Input,
    Input_like,
    LovaszLoss,
    MalisNLL,
    Model,
    Module,
    MultinoulliNLL,
    Node,
    OneHot,
    Pad,
    Perceptron,
    Pool,
    RampLoss,
    Reshape,
    Scan,
    ScanOutput,
    Softmax,
    SquaredLoss,
    TaggedShape,
    TverskyLoss,
    UpConv,
    ValueNode,
    export_onnx,
    export_program,
    freeze,
    initweights,
    load_model,
    rebuild_model,
    replace_with_input,
    save_model,
    split,
    transfer_params,
)

NAN = float("nan")


def image(y: int = 8, x: int = 8, f: int = 1, name: str = "raw") -> Input:
    return Input((1, f, y, x), "b,f,y,x", name=name)


def probabilities(n_class: int = 2) -> Softmax:
    return Softmax(image(f=n_class))


def ids(y: int = 8, f: int = 1) -> Input:
    return Input((1, f, y, 8), "b,f,y,x", dtype="int16", name="target")


def malis(**arguments: Any) -> MalisNLL:
    pred = Softmax(image(f=4), n_class=2, n_indep=2)
    given = {"nhood": [[0, 1], [1, 0]], **arguments}
    return MalisNLL(pred, ids(f=2), Input((1, 1, 8, 8), "b,f,y,x", dtype="int32"), **given)


C: Any = Conv
"""As `ANY`."""

NODES: dict[str, tuple[Callable[[], object], str]] = {
    # Shapes and sources
    "shape is a number": (lambda: Input(22, "b,f,y,x"), r"Input 'input'.*list of sizes, as \(1, 3, 8\), not 22"),
    "unknown tag": (lambda: Input((1, 1, 8), "b,f,q"), r"'q' is no axis tag; there are r, b, f, z, y, x, s"),
    "tag twice": (lambda: Input((1, 1, 8, 8), "b,f,x,x"), r"'x' is there twice in 'b,f,x,x'"),
    "too few tags": (lambda: Input((1, 1, 8, 8), "b,f,x"), r"4 sizes .* as many tags, not 3"),
    "tags are a number": (lambda: Input((1, 1, 8), 5), r"tags must be a string like 'b,f,z,y,x'"),
    "negative size": (lambda: Input((1, 1, -8), "b,f,x"), r"whole number from 0 on or None, not -8"),
    "fractional size": (lambda: Input((1, 1, 8.5), "b,f,x"), r"whole number from 0 on or None, not 8.5"),
    "stride is a number": (lambda: Input((1, 1, 8), "b,f,x", 2), r"strides must be a list of numbers.*not 2"),
    "stride 0": (lambda: Input((1, 1, 8), "b,f,x", [0]), r"strides .0,. .*above 0"),
    "stride NaN": (lambda: Input((1, 1, 8), "b,f,x", [NAN]), r"strides must be a list of numbers.*nan"),
    "stride text": (lambda: Input((1, 1, 8), "b,f,x", "a"), r"strides must be a list of numbers.*'a'"),
    "too many strides": (lambda: Input((1, 1, 8), "b,f,x", [1, 2]), r"strides \(1, 2\) need one entry .* 1 spatial"),
    "fov -2": (lambda: Input((1, 1, 8), "b,f,x", fov=[-2]), r"fov \(-2,\) .* from 0 on, or -1 for unknown"),
    "fov 1.5": (lambda: Input((1, 1, 8), "b,f,x", fov=[1.5]), r"fov \(1.5,\) .*whole numbers"),
    "fov None": (lambda: Input((1, 1, 8), "b,f,x", fov=[None]), r"fov must be a list of numbers.*\[None\]"),
    "centre text": (lambda: Input((1, 1, 8), "b,f,x", centre=["a"]), r"centre must be a list of numbers.*\['a'\]"),
    "offsets text": (lambda: TaggedShape((1, 1, 8), "b,f,x", None, [["a"]]), r"mfp_offsets must be whole numbers"),
    "dtype of numpy": (lambda: Input((1, 8), "b,f", dtype=np.float32), r"no dtype; there are float32"),
    "unknown dtype": (lambda: Input((1, 8), "b,f", dtype="float23"), r"Did you mean 'float32'"),
    "flag is a text": (
        lambda: Input((1, 8), "b,f", hardcoded_shape="no"),
        r"hardcoded_shape must be True or False.*'no'",
    ),
    "Input_like a text": (lambda: Input_like("raw"), r"needs a node or a TaggedShape, not str"),
    "value of other size": (
        lambda: ValueNode((2, 3), "b,f", value=np.ones(5)),
        r"shape \(5,\).*right would be \(2, 3\)",
    ),
    "value NaN": (lambda: ValueNode((2, 3), "b,f", value=NAN), r"6 of the 6 values given for value are not finite"),
    "init_kwargs a list": (
        lambda: ValueNode((2,), "f", init_kwargs=["scale"]),
        r"init_kwargs must be a mapping",
    ),
    "init_kwargs unknown": (lambda: ValueNode((2,), "f", init_kwargs={"scal": 1}), r"no 'scal'.*Did you mean 'scale'"),
    "state without f": (lambda: InitialState_like(Input((1, 8), "b,x"), 3), r"needs a parent with an axis f"),
    # Layers
    "parent None": (lambda: C(None, 2, (3, 3)), r"Conv 'conv': parent must be a node, not None"),
    "parent list": (lambda: C([image()], 2, (3, 3)), r"Conv 'conv': parent must be a node, not \[<Input"),
    "parent array": (lambda: C(np.zeros((1, 1, 8, 8)), 2, (3, 3)), r"parent must be a node, not array"),
    "n_f 0": (lambda: C(image(), 0, (3, 3)), r"n_f must be a whole number from 1 on, not 0"),
    "n_f None": (lambda: C(image(), None, (3, 3)), r"n_f must be a whole number from 1 on, not None"),
    "n_f beyond all memory": (lambda: C(image(), 10**13, (3, 3)), r"w of the shape .* needs more memory"),
    "filter a number": (lambda: C(image(), 2, 3), r"filter_shape must be 2 whole numbers, not 3"),
    "filter of 3 axes": (lambda: C(image(), 2, (3, 3, 3)), r"one entry for each of the 2 spatial axes"),
    "filter 0": (lambda: C(image(), 2, (3, 0)), r"whole numbers from 1 on, not \(3, 0\)"),
    "filter too large": (lambda: C(image(), 2, (3, 9)), r"axis x of size 8 is too small for filter 9; .* would fit"),
    "even filter, same": (lambda: C(image(), 2, (3, 4), conv_mode="same"), r"'same' needs odd filters"),
    "size doesn't divide": (lambda: C(image(), 2, (2, 2), (2, 2)), r"axis y of size 8 is 7 after filter 2.*7 or 9"),
    "mode in another's place": (lambda: C(image(), 2, (3, 3), mfp="same"), r"mfp must be True or False, not 'same'"),
    "unknown mode": (lambda: C(image(), 2, (3, 3), conv_mode="sam"), r"must be 'valid', 'same' or 'full', not 'sam'"),
    "unknown activation": (lambda: C(image(), 2, (3, 3), activation_func="rleu"), r"Did you mean 'relu'"),
    "activation None": (lambda: C(image(), 2, (3, 3), activation_func=None), r"must be a name, as 'relu', not None"),
    "dropout 1": (lambda: C(image(), 2, (3, 3), dropout_rate=1), r"dropout_rate: 1 .* from 0 below 1"),
    "dropout NaN": (lambda: C(image(), 2, (3, 3), dropout_rate=NAN), r"dropout_rate: nan .* from 0 below 1"),
    "w of another shape": (
        lambda: C(image(), 2, (3, 3), w=np.ones((2, 3))),
        r"w .*shape \(2, 3\), but needs \(2, 1, 3, 3\)",
    ),
    "w text": (lambda: C(image(), 2, (3, 3), w="ones"), r"w must be an array, not 'ones'"),
    "b NaN": (lambda: C(image(), 2, (3, 3), b=[NAN, 1.0]), r"Conv 'conv': 1 of the 2 values given for b are not"),
    "b infinite": (lambda: C(image(), 2, (3, 3), b=torch.tensor([1, torch.inf])), r"1 of the 2 values given for b"),
    "without axes b, f": (lambda: C(Input((3, 1, 5), "r,f,x"), 2, (3,)), r"needs the axes b, f and one to three"),
    "unknown sizes": (lambda: C(Input((1, 1, None), "b,f,x"), 2, (3,)), r"needs known feature and spatial sizes"),
    "flatten in another's place": (lambda: Perceptron(image(), 3, flatten="yes"), r"flatten must be True or False"),
    "perceptron without f": (lambda: Perceptron(Input((1, 8), "b,x"), 3), r"needs an f axis"),
    "enlarge by 0": (lambda: UpConv(image(), 3, (0, 2)), r"pool_shape must be whole numbers from 1 on"),
    "pool doesn't divide": (lambda: Pool(image(9), (2, 2)), r"axis y of size 9 can't be pooled by 2.*8 or 10"),
    "pool mode": (lambda: Pool(image(), (2, 2), mode="median"), r"mode must be one of max, average"),
    "crop all": (lambda: Crop(image(), (0, 4)), r"can't cut 2 × 4 from axis x of size 8; at most 3"),
    "pad -1": (lambda: Pad(image(), (-1, 0)), r"pad must be whole numbers from 0 on"),
    "pad NaN": (lambda: Pad(image(), (1, 1), NAN), r"value must be a number, not nan"),
    "name None": (lambda: C(image(), 2, (3, 3), name=None), r"name must be a text without a dot, not None"),
    "name with a dot": (lambda: C(image(), 2, (3, 3), name="a.b"), r"without a dot, not 'a.b'"),
    "name of torch's": (lambda: C(image(), 2, (3, 3), name="forward"), r"can't be called 'forward'"),
    # Merging, cutting, reshaping
    "concat nothing": (lambda: Concat([]), r"Concat 'concat' needs a list of nodes, not \[\]"),
    "concat one node": (lambda: Concat(image()), r"needs a list of nodes"),
    "concat text": (lambda: Concat([image(), "raw"]), r"a parent must be a node, not str"),
    "concat unlike sizes": (lambda: Concat([image(8), image(9)]), r"differ on axis y: 8 and 9"),
    "concat unlike strides": (
        lambda: Concat([image(4, 4), Pool(image(), (2, 2))]),
        r"unlike strides, \(1, 1\) and \(2, 2\)",
    ),
    "concat on no axis": (lambda: Concat([image(), image()], "z"), r"there is no axis 'z'"),
    "add one": (lambda: Add(image()), r"needs two nodes or more, but got 1"),
    "add a number": (lambda: Add(image(), 3), r"n2 must be a node or None, not 3"),
    "add to a number": (lambda: Add(3, image()), r"a parent must be a node, not int"),
    "failing_prob 2": (lambda: FaithlessMerge(image(), image(), failing_prob=2), r"failing_prob: 2 is not allowed"),
    "cut on no axis": (lambda: FromTensor(image(), "z"), r"there is no axis 'z'.*only b, f, y, x"),
    "cut behind the end": (lambda: FromTensor(image(), "y", 4, 12), r"needs entries 4 to 12 of axis y, but it has 8"),
    "cut nothing": (lambda: FromTensor(image(), "y", 4, 4), r"stop must lie behind start"),
    "reshape to a number": (lambda: Reshape(image(), 64, "f"), r"list of sizes, as \(1, 3, 8\), not 64"),
    "reshape to another size": (lambda: Reshape(image(), (1, 63), "b,f"), r"64 entries.*has 63"),
    # Functions and modules
    "function is none": (lambda: ApplyFunc(image(), "abs"), r"functor must be a function, not 'abs'"),
    "function of nothing": (lambda: ApplyFunc([], torch.abs), r"needs a parent"),
    "function, args a number": (lambda: ApplyFunc(image(), torch.abs, 3), r"args must be a list, not 3"),
    "function, kwargs a list": (lambda: ApplyFunc(image(), torch.abs, (), [1]), r"kwargs must be a mapping, not \[1\]"),
    "function, tags a number": (lambda: ApplyFunc(image(), torch.abs, tags=3), r"tags must be a string like"),
    "function, shape a number": (lambda: ApplyFunc(image(), torch.abs, shape=3), r"list of sizes.*not 3"),
    "module is a function": (lambda: Module(image(), torch.abs), r"must be a torch.nn.Module.*ApplyFunc"),
    "module, fov NaN": (lambda: Module(image(), torch.nn.ReLU(), fov=[NAN, 1]), r"fov must be a list of numbers"),
    "module, stride 0": (lambda: Module(image(), torch.nn.ReLU(), strides=[0, 1]), r"strides .*above 0"),
    "module of other features": (lambda: Module(image(), torch.nn.Conv2d(3, 2, 3)), r"its code doesn't take 'raw'"),
    # Classes, losses, metrics
    "softmax of 5 by 2": (lambda: Softmax(image(f=5), n_class=2), r"1 × 2 classes need 2 features, but 'raw' has 5"),
    "one-hot 0": (lambda: OneHot(ids(), 0), r"n_class must be a whole number from 1 on, not 0"),
    "nll of no softmax": (lambda: MultinoulliNLL(image(f=2), ids(), True), r"needs the output of a Softmax, not Input"),
    "target None": (lambda: MultinoulliNLL(probabilities(), None, True), r"target must be a node, not None"),
    "target of other size": (lambda: MultinoulliNLL(probabilities(), ids(9), True), r"size 8 on axis y"),
    "target of 2 ids": (lambda: MultinoulliNLL(probabilities(), ids(f=2), True), r"size 1 on axis f \(class ids\)"),
    "sparse in another's place": (
        lambda: MultinoulliNLL(probabilities(), ids(), [1, 2]),
        r"target_is_sparse must be True or False, not \[1, 2\]",
    ),
    "class weights, 3 of 2": (
        lambda: MultinoulliNLL(probabilities(), ids(), True, [1, 2, 3]),
        r"class_weights.*2 numb",
    ),
    "class weight NaN": (lambda: MultinoulliNLL(probabilities(), ids(), True, [1, NAN]), r"class_weights: nan"),
    "example weights an array": (
        lambda: MultinoulliNLL(probabilities(), ids(), True, None, np.ones((1, 8, 8))),
        r"example_weights must be a node or None, not array",
    ),
    "weakness text": (
        lambda: MultinoulliNLL(probabilities(), ids(), True, weakness="a"),
        r"weakness must be from 0 to 1",
    ),
    "smoothing 2": (
        lambda: MultinoulliNLL(probabilities(), ids(), True, label_smoothing=2),
        r"label_smoothing: 2 is not",
    ),
    "focal gamma -1": (lambda: FocalNLL(probabilities(), ids(), gamma=-1, target_is_sparse=True), r"gamma: -1 is not"),
    "binary of no sigmoid": (lambda: BinaryNLL(Conv(image(), 1, (1, 1)), image()), r"activation 'relu'; it needs"),
    "squared of unlike axes": (lambda: SquaredLoss(image(), Input((1, 8), "b,f")), r"target's axes"),
    "squared of unlike sizes": (lambda: SquaredLoss(image(), image(9)), r"must have size 8 on axis y"),
    "margin -1": (lambda: AbsLoss(image(), image(), margin=-1), r"margin: -1 .* from 0"),
    "ramp margin text": (lambda: RampLoss(image(), image(), margin="a"), r"margin: 'a' is no number"),
    "dice smooth -1": (lambda: DiceLoss(probabilities(), ids(), True, smooth=-1), r"smooth: -1 .* from 0"),
    "tversky alpha -1": (
        lambda: TverskyLoss(probabilities(), ids(), target_is_sparse=True, alpha=-1),
        r"alpha: -1 .* from 0",
    ),
    "lovasz classes text": (
        lambda: LovaszLoss(probabilities(), ids(), True, classes="some"),
        r"must be 'present' or 'all', not 'some'",
    ),
    "malis, ragged nhood": (lambda: malis(nhood=[[0, 1], [1]]), r"nhood must be a list of offsets of equal"),
    "malis, nhood of 3": (lambda: malis(nhood=[[0, 1], [1, 0], [1, 1]]), r"nhood must be \(2, 2\).*not \(3, 2\)"),
    "malis, weights an array": (
        lambda: malis(example_weights=np.ones((1, 8, 8))),
        r"example_weights must be a node or None, not array",
    ),
    "mixing weights, 1 of 2": (lambda: AggregateLoss([image(), image()], [1.0]), r"mixing_weights: .*2 numbers"),
    "no losses": (lambda: AggregateLoss([]), r"needs at least one loss"),
    "classes of a relu": (lambda: Classification(Conv(image(), 2, (1, 1))), r"n_class and n_indep must be given"),
    "classes of None": (lambda: Classification(None), r"pred must be a node, not None"),
    "classes text": (
        lambda: Classification(image(f=2), "two", 1),
        r"n_class must be a whole number or 'auto', not 'two'",
    ),
    "errors of other size": (lambda: Errors(probabilities(), ids(9), True), r"must have size 8 on axis y"),
    "score of a list": (lambda: ClassScores(probabilities(), ids(), ["iou"], True), r"no score \['iou'\], only"),
    "samples -1": (lambda: GaussianRV(image(), image(), -1), r"n_samples must be a whole number from 0 on"),
    # Recurrence
    "state of other size": (
        lambda: GRU(Input((1, 4), "b,f"), Input((1, 3), "b,f"), 5),
        r"the memory .* must have 5 features",
    ),
    "scan without steps": (lambda: scan(), r"give n_steps, or a sequence"),
    "scan, steps 0": (lambda: scan(n_steps=0), r"n_steps must be a whole number from 1 on, not 0"),
    "scan, nothing fed back": (lambda: scan(n_steps=2, in_memory=[]), r"0 nodes of in_memory .* need as many"),
    "output of no scan": (lambda: ScanOutput(image()), r"needs a ScanN, not Input"),
}


def scan(**arguments: Any) -> Node:
    state = Input((1, 3), "b,f", name="state")
    step = GRU(Input((1, 4), "b,f"), state, 3)
    return Scan(step, **{"in_memory": state, **arguments})


@pytest.mark.parametrize("what", NODES)
def test_nodes(what: str) -> None:
    call, words = NODES[what]
    with pytest.raises(ElektronnError, match=words):
        call()


def network() -> Model:
    raw = Input((1, 1, 22, 22), "b,f,y,x", name="raw")
    conv = Conv(raw, 4, (3, 3), (2, 2), batch_normalisation="train", dropout_rate=0.1)
    out = Softmax(Conv(conv, 3, (3, 3), activation_func="lin"))
    target = Input_like(out, "int16", "target", override_f=1)
    loss = AggregateLoss(MultinoulliNLL(out, target, True))
    return Model(raw, target, loss, out)


R: Any = rebuild_model
M: Any = Model
NOWHERE = Path("/nowhere/at/all")

MODELS: dict[str, tuple[Callable[[Any], object], str]] = {
    # The model and its roles
    "input None": (lambda m: M(None), r"needs a prediction_node or a loss_node|input_node must be one Input"),
    "input a layer": (lambda m: M(m["conv"], prediction_node=m["softmax"]), r"input_node must be one Input, not Conv"),
    "role unknown": (
        lambda m: M("rwa", prediction_node=m["softmax"]),
        r"input_node: none .* 'rwa'. Did you mean 'raw'",
    ),
    "loss not a number": (lambda m: M(m["raw"], loss_node=m["nll"]), r"loss must be one number, but .*AggregateLoss"),
    "prediction of another graph": (lambda m: M(m["raw"], prediction_node=image()), r"doesn't depend on the input"),
    "target of another graph": (lambda m: M(m["raw"], ids(), m["total_loss"]), r"doesn't depend on the target"),
    "list role a node": (
        lambda m: M(m["raw"], m["target"], m["total_loss"], None, m["nll"]),
        r"must be a list of nodes",
    ),
    "list role a number": (lambda m: M(m["raw"], prediction_ext=3), r"prediction_ext must be a list of nodes, not 3"),
    "model name None": (
        lambda m: M(m["raw"], prediction_node=m["softmax"], name=None),
        r"name must be a text, not None",
    ),
    "scaling text": (lambda m: M(m["raw"], prediction_node=m["softmax"], scaling="x"), r"scaling must be a dict"),
    "node unknown": (lambda m: m["covn"], r"^There is no node 'covn' in this model. Did you mean 'conv'\?$"),
    "node by None": (lambda m: m[None], r"no node None"),
    "children of nobody": (lambda m: m.children("covn"), r"Did you mean 'conv'"),
    "children of None": (lambda m: m.all_children(None), r"no node None"),
    "two models, one name": (
        lambda m: M(m["raw"], prediction_node=Add(m["softmax"], network()["softmax"])),
        r"Two models have each a node",
    ),
    # What is live
    "rate text": (lambda m: setattr(m, "dropout_rates", "high"), r"one number for all nodes, or a list"),
    "rates, 2 of 1": (
        lambda m: setattr(m, "dropout_rates", [0.1, 0.2]),
        r"1 nodes have a dropout_rate \(conv\), but 2",
    ),
    "rate 1": (lambda m: setattr(m["conv"], "dropout_rate", 1.0), r"from 0 below 1"),
    "mixing weights, 2 of 1": (lambda m: setattr(m, "mixing", [1, 2]), r"a list of 1 numbers"),
    "parameters None": (lambda m: m.set_param_values(None), r"values must be a mapping, not None"),
    "parameters of a node None": (lambda m: m.set_param_values({"conv": None}), r"values must be a mapping, not None"),
    "parameter unknown": (lambda m: m.set_param_values({"conv": {"v": 0}}), r"no parameter 'v', only"),
    "parameter text": (lambda m: setattr(m["conv"], "b", "zero"), r"b must be an array, not 'zero'"),
    "parameter of another shape": (
        lambda m: setattr(m["conv"], "b", np.zeros(3)),
        r"b has the shape \(4,\), but \(3,\)",
    ),
    "names of features, 2 of 3": (
        lambda m: setattr(m["softmax"], "feature_names", ["a", "b"]),
        r"needs 3 feature names",
    ),
    "names of features a number": (
        lambda m: setattr(m["softmax"], "feature_names", 3),
        r"needs 3 feature names.*not 3",
    ),
    "device unknown": (lambda m: m.to("cud"), r"can't be moved to cud"),
    "dtype of numpy, model": (lambda m: m.to(dtype="half"), r"can't be moved to .*half"),
    # Values
    "no array": (lambda m: m.predict(), r"needs 1 arrays \(raw\), but got 0|array"),
    "array of text": (lambda m: m.predict("raw.h5"), r"Input 'raw' takes an array of numbers, not .*raw.h5"),
    "array None": (lambda m: m.predict(None), r"Input 'raw' takes an array of numbers"),
    "array ragged": (lambda m: m.predict([[1, 2], [3]]), r"Input 'raw' takes an array, not .*inhomogeneous"),
    "array complex": (lambda m: m.predict(np.zeros((1, 1, 22, 22), complex)), r"takes an array of numbers.*complex"),
    "array of 3 axes": (lambda m: m.predict(np.zeros((1, 22, 22))), r"takes arrays of 4 axes .*\(1, 22, 22\)"),
    "array of 2 features": (lambda m: m.predict(np.zeros((1, 2, 22, 22))), r"axis f has 1 entries.*\(1, 2, 22, 22\)"),
    "array of no fitting size": (lambda m: m.predict(np.zeros((1, 1, 21, 22))), r"axis y .*would fit"),
    "target doesn't fit": (lambda m: m.loss(np.zeros((1, 1, 22, 22)), np.zeros((1, 1, 7, 8))), r"axis y"),
    "dense, flag text": (lambda m: m.predict_dense(np.zeros((1, 30, 30)), "u1"), r"as_uint8 must be True or False"),
    "dense, batch None": (
        lambda m: m.predict_dense(np.zeros((1, 30, 30)), batch_size=None),
        r"batch_size must be a whole",
    ),
    "dense, image of 2 axes": (lambda m: m.predict_dense(np.zeros((30, 30))), r"images with the axes f, y, x, not"),
    "dense, image too small": (lambda m: m.predict_dense(np.zeros((1, 5, 30))), r"axis y"),
    # Rewriting
    "rebuild a text": (lambda m: R("model"), r"model must be a model, not 'model'"),
    "rebuild a node": (lambda m: R(m["raw"]), r"model must be a model, not <Input"),
    "exact text": (lambda m: R(m, imposed_patch_size=(22, 22), exact="no"), r"exact must be True or False, not 'no'"),
    "patch of 1 axis": (lambda m: R(m, imposed_patch_size=(22,)), r"each of the 2 spatial axes y, x"),
    "patch negative": (lambda m: R(m, imposed_patch_size=(-2, 22)), r"whole number from 1 on.*\(-2, 22\)"),
    "patch a number": (lambda m: R(m, imposed_patch_size=22), r"whole numbers, not 22"),
    "patch exact": (lambda m: R(m, imposed_patch_size=(21, 22), exact=True), r"\(21, 22\) doesn't fit.*nearest"),
    "batch 0": (lambda m: R(m, imposed_batch_size=0), r"imposed_batch_size must be a whole number from 1 on, not 0"),
    "replace_bn a number": (lambda m: R(m, replace_bn=3), r"replace_bn must be False or one of .*not 3"),
    "replace_bn unknown": (lambda m: R(m, replace_bn="flod"), r"Did you mean 'fold'"),
    "lock a fraction": (lambda m: R(m, lock_trainable_params=1.5), r"names or by a whole number, not by 1.5"),
    "lock unknown": (lambda m: R(m, lock_trainable_params=["covn"]), r"no node 'covn'.*Did you mean 'conv'"),
    "freeze in a node": (lambda m: freeze(m["conv"], 1), r"model must be a model, not <Conv"),
    "freeze None": (lambda m: freeze(m, None), r"names or by a whole number, not by None"),
    "freeze -1": (lambda m: freeze(m, -1), r"from 0 on, not -1"),
    "freeze a softmax": (lambda m: freeze(m, ["softmax"]), r"has no parameters of its own"),
    "input for a stranger": (lambda m: replace_with_input(m, image()), r"is not in model 'model'"),
    "input for None": (lambda m: replace_with_input(m, None), r"must be given, or its name, not None"),
    "transfer from None": (lambda m: transfer_params(None, m), r"source must be a model or a path, not None"),
    "transfer to a file": (lambda m: transfer_params(m, "model"), r"target must be a model, not 'model'"),
    "transfer, rename a list": (lambda m: transfer_params(m, m, ["conv"]), r"rename must be a mapping"),
    "transfer, rename to None": (lambda m: transfer_params(m, m, {"conv": None}), r"the target has no None"),
    "transfer, strict text": (
        lambda m: transfer_params(m, m, strict="yes"),
        r"strict must be True or False, not 'yes'",
    ),
    # Joining, splitting, drawing
    "merge with None": (lambda m: AutoMerge(m["raw"], None), r"parent2 must be a node, not None"),
    "merge without n_f": (lambda m: AutoMerge(m["raw"], m["conv"]), r"upconv_n_f is needed"),
    "merge, odd difference": (lambda m: AutoMerge(image(), Conv(image(), 1, (2, 1)), 2), r"axis y .* odd number"),
    "merge, mode": (lambda m: AutoMerge(image(), image(), merge_mode="sum"), r"must be 'concat' or 'add', not 'sum'"),
    "split a text": (lambda m: split("raw", n_out=2), r"node must be a node, not 'raw'"),
    "split in 3": (lambda m: split(image(), "y", n_out=3), r"axis y of size 8 doesn't divide into 3 equal parts"),
    "split nowhere": (lambda m: split(image(), "z", [1]), r"has no axis 'z', only b, f, y, x"),
    "split at infinity": (lambda m: split(image(), "y", np.inf), r"index must be whole numbers from 1 on"),
    "dual of None": (lambda m: m["conv"].make_dual(None), r"parent must be a node, not None"),
    "weights of size 0": (lambda m: initweights((3, 0)), r"whole numbers from 1 on, not \(3, 0\)"),
    "weights mode": (lambda m: initweights((3, 2), mode="norm"), r"'norm' is no mode; there are"),
    # Files, without a file
    "save to None": (lambda m: m.save(None), r"path must be a path, not None"),
    "save into no folder": (lambda m: m.save(NOWHERE / "m"), r"can't be written to /nowhere/at/all/m: No such file"),
    "save a text": (lambda m: save_model("m.safetensors", m), r"model must be a model, not 'm.safetensors'"),
    "save, extra of numbers": (lambda m: m.save(NOWHERE, extra={"a": 1}), r"extra must be texts by names"),
    "save, scaling of arrays": (
        lambda m: m.save(NOWHERE, scaling={"a": np.ones(2)}),
        r"scaling must hold plain values",
    ),
    "load None": (lambda m: load_model(None), r"path must be a path, not None"),
    "load nothing": (lambda m: load_model(NOWHERE), r"There is no model file /nowhere/at/all"),
    "load, functions a list": (lambda m: load_model(NOWHERE, functions=["f"]), r"functions must be a mapping"),
    "load, flag text": (lambda m: load_model(NOWHERE, allow_nan="no"), r"allow_nan must be True or False, not 'no'"),
    "load a name too long": (lambda m: load_model("a" * 300), r"can't be read: File name too long"),
    "save to a null character": (lambda m: m.save("a\0b"), r"can't be written to 'a.*null"),
    "export a node": (lambda m: export_program(m["conv"]), r"model must be a model, not <Conv"),
    "export, flag text": (lambda m: export_program(m, dynamic_batch="yes"), r"dynamic_batch must be True or False"),
    "export to None": (lambda m: export_onnx(m, None), r"path must be a path, not None"),
}


@pytest.mark.parametrize("what", MODELS)
def test_models(what: str) -> None:
    call, words = MODELS[what]
    with pytest.raises(ElektronnError, match=words):
        call(network())


def test_an_unknown_keyword_is_python_s_own_error() -> None:
    with pytest.raises(TypeError, match=r"rebuild_model\(\) got an unexpected keyword argument 'patch'"):
        R(network(), patch=(22, 22))


def test_networks_can_be_copied_and_pickled() -> None:
    model = network()
    x = np.random.default_rng(0).random((1, 1, 22, 22), np.float32)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copied.predict(x), model.predict(x))
        copied["conv"].b = np.ones(4)
        assert not np.array_equal(model["conv"].b.detach(), np.ones(4))


def edited(data: bytes, **metadata: str) -> bytes:
    """Return a model file with other texts in its header, and without a checksum."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] |= metadata
    del header["__metadata__"]["checksum"]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


TRUNCATED = r"is no safetensors file, or it is truncated"

FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", TRUNCATED),
    "cut in the length": (lambda data: data[:7], TRUNCATED),
    "cut in the header": (lambda data: data[:200], TRUNCATED),
    "cut behind the header": (lambda data: data[: 8 + int.from_bytes(data[:8], "little")], TRUNCATED),
    "cut in the last number": (lambda data: data[:-1], TRUNCATED),
    "longer": (lambda data: data + bytes(8), TRUNCATED),
    "a pickle": (lambda data: pickle.dumps({"w": np.ones(3)}), TRUNCATED),
    "a text": (lambda data: b"model: unet\n" * 20, TRUNCATED),
    "a length beyond all files": (lambda data: b"\xff" * 7 + b"\x7f" + data[8:], TRUNCATED),
    "somebody else's": (lambda data: safetensors.torch.save({"w": torch.ones(2)}), r"but no model of this package"),
    "another version": (
        lambda data: edited(data, version="2"),
        r"has the format version 2; this package reads version 1",
    ),
    "a changed bit": (lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:], r"is damaged: its checksum"),
    "a changed header": (lambda data: data.replace(b"softmax", b"softmix"), r"is damaged: its checksum"),
    "no graph": (lambda data: edited(data, graph="[]"), r"its header is broken .*Expected `object`"),
    "a bottomless graph": (lambda data: edited(data, graph="[" * 100_000), r"its header is broken .*Recursion"),
    "scaling of a list": (lambda data: edited(data, scaling="[]"), r"its header is broken"),
}


@pytest.mark.parametrize("what", FILES)
def test_files(what: str, tmp_path: Path) -> None:
    change, words = FILES[what]
    path = tmp_path / "model.safetensors"
    model = network()
    model.save(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ModelError, match=words) as loading:
        load_model(path)
    assert str(path) in str(loading.value)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_process_that_dies_while_it_saves_leaves_the_old_file(step: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    network().save(path)
    before = path.read_bytes()
    program = (
        "import os, sys\n"
        "from elektronn_tui.models import load_model\n"
        "model = load_model(sys.argv[1])\n"
        "model['conv'].b = model['conv'].b + 1\n"
        f"os.{step} = lambda *args: os._exit(7)\n"
        "model.save(sys.argv[1])\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 7
    assert path.read_bytes() == before
    load_model(path)
