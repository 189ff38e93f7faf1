"""Boundaries, organelles and calibre of neurites in single sections: a 2D U-Net with three outputs.

Input 284×284, output 100×100, 92 pixels inside on each side; three heads of 3, 4 and 3 classes; 49,533,770 parameters
at the width of 64. A step takes about 4 s on two cores. Learns from a synthetic volume of 10 nm, or from your own:
``--set data.path=FILE.h5`` with datasets ``raw`` (z, y, x) and ``labels`` (3, z, y, x), the classes of each head from
0, and -1 where nothing is known.
"""

from elektronn_tui import Experiment, Optimiser, StepDecay, VolumeData
from elektronn_tui.data import Grey
from elektronn_tui.models import (
    AggregateLoss,
    Concat,
    Conv,
    Errors,
    Input,
    Model,
    MultinoulliNLL,
    Node,
    Pool,
    Softmax,
    UpConvMerge,
    split,
)

HEADS = {"barrier": 3, "object": 4, "calibre": 3}
"""Outputs and their numbers of classes; see `elektronn_tui.data.TISSUE_CLASSES` for those of the synthetic volume."""


def create_model(width: int = 64) -> Model:
    """Return the network; `width` is the number of features of its first level, doubled on each of the next four."""

    def pair(parent: Node, n_f: int) -> Node:
        return Conv(Conv(parent, n_f, (3, 3)), n_f, (3, 3))

    raw = Input((None, 1, 284, 284), "b,f,y,x", name="raw")
    levels = [pair(raw, width)]
    for k in range(1, 5):
        levels.append(pair(Pool(levels[-1], (2, 2)), 2**k * width))
    bottom = Pool(levels.pop(), (2, 2))

    # The deepest level is enlarged fourfold at once.
    up = pair(UpConvMerge(levels.pop(), bottom, 16 * width), 8 * width)
    for k in (3, 2, 1):
        up = pair(UpConvMerge(levels.pop(), up, 2**k * width), 2 ** (k - 1) * width)

    heads = {
        name: Softmax(Conv(up, classes, (1, 1), activation_func="lin"), name=name) for name, classes in HEADS.items()
    }
    prediction = Concat(list(heads.values()), name="prediction")
    shape = prediction.shape.updateshape("f", len(heads))
    target = Input(shape, dtype="int64", name="target")
    losses, errors = [], []
    for head, truth in zip(heads.values(), split(target, "f", n_out=len(heads)), strict=True):
        losses.append(MultinoulliNLL(head, truth, target_is_sparse=True, name=f"{head.name}_nll"))
        errors.append(Errors(head, truth, target_is_sparse=True, name=f"{head.name}_error"))
    loss = AggregateLoss(losses, mixing_weights=[2.154, 0.423, 0.423], name="loss")
    return Model(
        input_node=raw,
        target_node=target,
        loss_node=loss,
        prediction_node=prediction,
        prediction_ext=[loss, *errors, prediction],
        debug_outputs=[*(AggregateLoss([nll], name=f"{nll.name}_mean") for nll in losses), errors[0]],
    )


experiment = Experiment(
    name="unet2d",
    model=create_model,
    data=VolumeData(demo_shape=(24, 400, 400), demo_seed=2, target="labels", valid_slices=8),
    optimiser=Optimiser("AdamW", lr=1e-4, betas=(0.95, 0.995), weight_decay=5e-4),
    schedules={"lr": StepDecay(0.995, every=1000)},
    steps=800_000,
    max_runtime=4 * 24 * 3600,
    warp=0.4,
    grey=0.5,
    grey_args=Grey(contrast=0.1, brightness=0.05, gamma=1.2),
    validate_every=500,
    validate_patches=8,
    checkpoint_every=2000,
    preview_every=500,
    preview_shape=(1, 200, 200),
)

if __name__ == "__main__":
    print(experiment.describe())
