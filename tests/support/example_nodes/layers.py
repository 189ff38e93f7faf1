"""Layers with weights, pooling, cutting and joining."""

from __future__ import annotations

from elektronn_tui.models import Add, Concat, Conv, Crop, FragmentsToDense, Input, Perceptron, Pool, UpConv, UpConvMerge
from elektronn_tui.models.activations import ACTIVATIONS

from .example import NodeExample, image, volume

SLOPES = [[0.1, 0.3], [0.0, 0.7], [0.2, 1.0]]

EXAMPLES: dict[str, NodeExample] = {
    "input": NodeExample(lambda: image()),
    "conv1d": NodeExample(lambda: Conv(Input((2, 2, 7), "b,f,x", name="raw"), 3, (2,), (2,), activation_func="tanh")),
    "conv2d": NodeExample(lambda: Conv(image(), 3, (3, 2), (2, 3), activation_func="tanh")),
    "conv3d": NodeExample(lambda: Conv(volume(), 2, (2, 3, 3), (2, 1, 1), activation_func="tanh")),
    "conv same": NodeExample(lambda: Conv(image(), 3, (3, 3), conv_mode="same", activation_func="tanh")),
    "conv full": NodeExample(lambda: Conv(image(), 3, (3, 2), conv_mode="full", activation_func="tanh")),
    "conv prelu": NodeExample(lambda: Conv(image(), 3, (3, 3), activation_func="prelu", b=SLOPES)),
    "conv maxout": NodeExample(lambda: Conv(image(), 4, (3, 3), activation_func="maxout 2")),
    "conv batch norm": NodeExample(
        lambda: Conv(image(), 3, (3, 3), batch_normalisation="train", activation_func="tanh")
    ),
    "conv stored norm": NodeExample(
        lambda: Conv(image(), 3, (3, 3), batch_normalisation="predict", activation_func="tanh")
    ),
    "conv fadeout": NodeExample(
        lambda: Conv(image(), 3, (3, 3), batch_normalisation="fadeout", gradnet_mode=True, activation_func="tanh")
    ),
    "conv dual": NodeExample(
        lambda: (conv := Conv(image(), 3, (3, 1), (3, 1), conv_mode="same", activation_func="tanh")).make_dual(
            conv, share_w=True
        )
    ),
    "upconv prelu": NodeExample(
        lambda: UpConv(Pool(image(), (2, 1), mode="average"), 3, (2, 1), activation_func="prelu", b=SLOPES)
    ),
    "upconv maxout": NodeExample(
        lambda: UpConv(Pool(image(), (2, 1), mode="average"), 4, (2, 1), activation_func="maxout 2")
    ),
    "perceptron prelu": NodeExample(lambda: Perceptron(image(), 3, "prelu", b=SLOPES)),
    "perceptron maxout": NodeExample(lambda: Perceptron(image(), 4, "maxout 2")),
    "perceptron dual": NodeExample(lambda: (first := Perceptron(image(), 3, "tanh")).make_dual(first, share_w=True)),
    "upconv": NodeExample(lambda: UpConv(Pool(image(), (2, 1), mode="average"), 3, (2, 1), activation_func="tanh")),
    "upconv 3d": NodeExample(
        lambda: UpConv(
            Pool(volume(), (1, 2, 2), mode="average"), 2, (1, 2, 2), activation_func="tanh", identity_init=False
        )
    ),
    "perceptron": NodeExample(lambda: Perceptron(image(), 3, "tanh")),
    "perceptron flat": NodeExample(lambda: Perceptron(image(), 3, "tanh", flatten=True)),
    "perceptron norm": NodeExample(lambda: Perceptron(image(), 3, "tanh", batch_normalisation="train")),
    "pool max": NodeExample(lambda: Pool(image(), (2, 1))),
    "pool average": NodeExample(lambda: Pool(image(), (2, 1), mode="average")),
    "pool sum": NodeExample(lambda: Pool(image(), (2, 1), mode="sum")),
    "conv mfp": NodeExample(lambda: Conv(image(), 2, (2, 3), (3, 2), activation_func="tanh", mfp=True)),
    "pool mfp": NodeExample(lambda: Pool(image(), (1, 2), mode="average", mfp=True)),
    "dense fragments": NodeExample(
        lambda: FragmentsToDense(
            Pool(Conv(image(), 2, (2, 1), (1, 2), activation_func="tanh", mfp=True), (3, 2), mfp=True)
        )
    ),
    "crop": NodeExample(lambda: Crop(image(), (1, 2))),
    "concat": NodeExample(lambda: Concat([(raw := image()), Conv(raw, 2, (1, 1), activation_func="tanh")])),
    "add": NodeExample(lambda: Add((raw := image()), Conv(raw, 2, (1, 1), activation_func="tanh"))),
    "merge": NodeExample(
        lambda: UpConvMerge(
            (raw := volume()), Pool(raw, (1, 2, 2), mode="average"), 3, upconv_kwargs={"activation_func": "tanh"}
        )
    ),
} | {
    f"activation {name}": NodeExample(
        lambda name=name: Perceptron(image(), 3, name, b=[0.3, -0.4, 0.1])  # type: ignore[misc]
    )
    for name in ACTIVATIONS
}
