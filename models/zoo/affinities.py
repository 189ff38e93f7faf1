"""Affinities, near and far, by a residual U-Net: which voxels belong to the same cell.

After Lee et al., "Superhuman accuracy on the SNEMI3D connectomics challenge" (2017): a U-Net whose levels are residual
and whose skip connections are sums, for the edges to the three nearest neighbours and to three distant voxels. Input
and output 16×96×96; 130,968 parameters. A step takes about 3 s on two cores. Learns from a synthetic volume of 10 nm,
or from your own: ``--set data.path=FILE.h5`` with datasets ``raw`` and ``labels``, which are segment ids; 0 is unknown.
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
    Model,
    MultinoulliNLL,
    Node,
    Pool,
    Softmax,
    UpConv,
)

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (-4, 0, 0), (0, -9, 0), (0, 0, -9))
"""The voxel (z, y, x) that each edge goes to. Far ones teach the network what a cell is; segmentation uses the near."""


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
    named = [("apart {},{},{}".format(*edge), "affinity {},{},{}".format(*edge)) for edge in OFFSETS]
    affinity.feature_names = [name for pair in named for name in pair]
    target = Input_like(affinity, override_f=edges, dtype="int64", name="target")
    # Most neighbours belong together: what counts are the few that don't.
    nll = MultinoulliNLL(affinity, target, target_is_sparse=True, class_weights=[3.0, 1.0] * edges, name="nll")
    loss = AggregateLoss([nll], name="loss")
    errors = Errors(affinity, target, target_is_sparse=True, name="errors")
    return Model(
        input_node=raw,
        target_node=target,
        loss_node=loss,
        prediction_node=affinity,
        prediction_ext=[loss, errors, affinity],
    )


experiment = Experiment(
    name="affinities",
    model=create_model,
    data=VolumeData(
        demo_shape=(64, 256, 256), target="affinities", offsets=OFFSETS, background="ignore", valid_slices=20
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
