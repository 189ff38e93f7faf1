"""Barriers between neurites: the 3D U-Net of Çiçek et al. (2016) as ELEKTRONN2 has it, without batch normalisation.

Input 116×132×132, output 28×44×44, 44 voxels inside on each side; 19,069,058 parameters. A step takes about 30 s on two
cores: this one wants a GPU. Learns from a synthetic volume of 10 nm, or from your own: ``--set data.path=FILE.h5`` with
datasets ``raw`` and ``labels``, which are segment ids (or, with ``--set data.target=labels``, 1 for barriers and 0 for
the rest).
"""

from elektronn_tui import Experiment, Optimiser, StepDecay, VolumeData
from elektronn_tui.data import Grey, Warp
from elektronn_tui.models import (
    AggregateLoss,
    Conv,
    Errors,
    Input,
    Input_like,
    Model,
    MultinoulliNLL,
    Pool,
    Softmax,
    UpConvMerge,
)


def create_model() -> Model:
    """Return the network."""
    cube, half = (3, 3, 3), (2, 2, 2)
    raw = Input((None, 1, 116, 132, 132), "b,f,z,y,x", name="raw")

    level0 = Conv(Conv(raw, 32, cube), 64, cube)
    level1 = Conv(Conv(Pool(level0, half), 64, cube), 128, cube)
    level2 = Conv(Conv(Pool(level1, half), 128, cube), 256, cube)
    bottom = Conv(Conv(Pool(level2, half), 256, cube), 512, cube)

    up = UpConvMerge(level2, bottom, 512)
    up = Conv(Conv(up, 256, cube), 256, cube)
    up = UpConvMerge(level1, up, 256)
    up = Conv(Conv(up, 128, cube), 128, cube)
    up = UpConvMerge(level0, up, 128)
    out = Conv(Conv(up, 64, cube), 64, cube)

    logits = Conv(out, 2, (1, 1, 1), activation_func="lin", name="barr")
    barrier = Softmax(logits)
    target = Input_like(barrier, override_f=1, dtype="int64", name="target")
    # One voxel in nine is a barrier: without weights "never" would be a good answer for a long while.
    nll = MultinoulliNLL(barrier, target, target_is_sparse=True, class_weights=[1.0, 3.0], name="nll_barr")
    loss = AggregateLoss([nll], name="loss")
    errors = Errors(barrier, target, target_is_sparse=True, name="errors")
    return Model(
        input_node=raw,
        target_node=target,
        loss_node=loss,
        prediction_node=barrier,
        prediction_ext=[loss, errors, barrier],
    )


experiment = Experiment(
    name="unet3d",
    model=create_model,
    data=VolumeData(demo_shape=(120, 240, 148), valid_slices=92, valid_axis="y"),
    optimiser=Optimiser("AdamW", lr=1e-4, weight_decay=5e-5),
    schedules={"lr": StepDecay(0.995, every=1000)},
    steps=1_000_000,
    max_runtime=14 * 24 * 3600,
    warp=0.5,
    warp_args=Warp(perspective=0.1),
    grey=0.5,
    grey_args=Grey(contrast=0.1, brightness=0.05, gamma=1.2),
    validate_every=500,
    validate_patches=2,
    checkpoint_every=2000,
    preview_every=500,
    preview_shape=(28, 88, 88),
)

if __name__ == "__main__":
    print(experiment.describe())
