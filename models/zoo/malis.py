"""Affinities whose errors count as much as they cost a segmentation: the residual U-Net, trained with MALIS.

The network of the example ``affinities`` for the three nearest edges, 130,890 parameters. The loss is the likelihood
of edges and, as its second part, that of pairs of voxels (Turaga et al., 2009): an edge that alone holds two cells
together weighs as much as all the pairs it joins. The control ``loss.mixing`` shifts between the two: "1.8,0.2" for
the start, "0.2,1.8" once most edges are right. A step takes about 3 s on two cores. Learns from a synthetic volume of
10 nm, or from your own: ``--set data.path=FILE.h5`` with datasets ``raw`` and ``labels``, which are segment ids; 0 is
unknown.
"""

from elektronn_tui import Experiment, Optimiser, StepDecay, VolumeData
from elektronn_tui.data import Grey, Warp
from elektronn_tui.models import (
    Add,
    AggregateLoss,
    Conv,
    Errors,
    Input,
    Input_like,
    MalisNLL,
    Model,
    MultinoulliNLL,
    Node,
    Pool,
    Softmax,
    UpConv,
    split,
)

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
"""The voxel (z, y, x) that each edge goes to."""


def residual(parent: Node, n_f: int) -> Node:
    """Return three convolutions of the parent's size, the last two of which learn a correction of the first."""
    first = Conv(parent, n_f, (1, 3, 3), conv_mode="same")
    inner = Conv(first, n_f, (3, 3, 3), conv_mode="same")
    return Add(first, Conv(inner, n_f, (3, 3, 3), conv_mode="same", activation_func="lin"))


def create_model() -> Model:
    """Return the network."""
    half, edges = (1, 2, 2), len(OFFSETS)
    raw = Input((None, 1, 16, 96, 96), "b,f,z,y,x", name="raw")

    fine = residual(raw, 12)
    middle = residual(Pool(fine, half), 20)
    coarse = residual(Pool(middle, half), 32)
    up = residual(Add(middle, UpConv(coarse, 20, half)), 20)
    up = residual(Add(fine, UpConv(up, 12, half)), 12)
    logits = Conv(up, 2 * edges, (1, 1, 1), activation_func="lin", name="logits")

    affinity = Softmax(logits, n_indep=edges, name="affinity")
    # Behind the affinities come the ids of the cells, of which MALIS counts the pairs of voxels.
    target = Input_like(affinity, override_f=edges + 1, dtype="int64", name="target")
    edge, cell = split(target, "f", edges, name=["edge", "cell"])
    nll = MultinoulliNLL(affinity, edge, target_is_sparse=True, class_weights=[3.0, 1.0] * edges, name="nll")
    malis = MalisNLL(affinity, edge, cell, OFFSETS, name="malis")
    loss = AggregateLoss([nll, malis], mixing_weights=[1.0, 1.0], name="loss")
    errors = Errors(affinity, edge, target_is_sparse=True, name="error")
    return Model(
        input_node=raw,
        target_node=target,
        loss_node=loss,
        prediction_node=affinity,
        prediction_ext=[loss, errors, affinity],
        debug_outputs=[AggregateLoss([nll], name="edges"), AggregateLoss([malis], name="pairs")],
    )


experiment = Experiment(
    name="malis",
    model=create_model,
    data=VolumeData(
        demo_shape=(64, 256, 256),
        target="affinities",
        offsets=OFFSETS,
        with_ids=True,
        background="ignore",
        valid_slices=20,
    ),
    optimiser=Optimiser("AdamW", lr=1e-3, weight_decay=1e-4),
    schedules={"lr": StepDecay(0.9, every=1000)},
    steps=50_000,
    warp=0.5,
    warp_args=Warp(lock_z=False),
    grey=0.5,
    grey_args=Grey(contrast=0.1, brightness=0.05, gamma=1.2),
    validate_every=250,
    validate_patches=12,
    checkpoint_every=1000,
    preview_every=250,
    preview_shape=(12, 128, 128),
)

if __name__ == "__main__":
    print(experiment.describe())
