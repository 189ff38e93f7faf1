"""Bad input to the network library: a typed error each, whose message says where, what and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ElektronnError
from elektronn_tui.models import (
    GRU,
    AbsLoss,
    Add,
    AggregateLoss,
    ApplyFunc,
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
        r"init_kwargs must be arguments of initweights",
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
    "function, args a number": (lambda: ApplyFunc(image(), torch.abs, 3), r"args must be a list and kwargs a dict"),
    "function, kwargs a list": (lambda: ApplyFunc(image(), torch.abs, (), [1]), r"args must be a list and kwargs"),
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
