"""Barriers between neurites in anisotropic volumes: a U-Net that is mostly flat on the way down.

Input 22×140×140, output 10×52×52, 6, 44, 44 voxels (z, y, x) inside on each side; 7,794,786 parameters. A step takes
about 6 s on two cores. Learns from a synthetic volume of 50×4×4 nm, or from your own:
``--set data.path=FILE.h5`` with datasets ``raw`` and ``labels``, which are segment ids (or, with
``--set data.target=labels``, 1 for barriers and 0 for the rest).
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
    flat, cube, half = (1, 3, 3), (3, 3, 3), (1, 2, 2)
    raw = Input((None, 1, 22, 140, 140), "b,f,z,y,x", name="raw")

    level0 = Conv(Conv(raw, 32, flat), 32, flat)
    level1 = Conv(Conv(Pool(level0, half), 64, flat), 64, flat)
    level2 = Conv(Conv(Pool(level1, half), 128, flat), 128, flat)
    bottom = Conv(Conv(Pool(level2, half), 256, cube), 256, cube)

    up = UpConvMerge(level2, bottom, 512)
    up = Conv(Conv(up, 256, flat), 256, flat)
    up = UpConvMerge(level1, up, 256)
    up = Conv(Conv(up, 128, cube), 128, cube)
    up = UpConvMerge(level0, up, 128)
    out = Conv(Conv(up, 64, cube), 64, cube)

    logits = Conv(out, 2, (1, 1, 1), activation_func="lin", name="barr")
    barrier = Softmax(logits)
    target = Input_like(barrier, override_f=1, dtype="int64", name="target")
    # One voxel in twenty is a barrier: without weights "never" would be a good answer for a long while.
    nll = MultinoulliNLL(barrier, target, target_is_sparse=True, class_weights=[1.0, 5.0], name="nll_barr")
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
    name="unet3d_lite",
    model=create_model,
    # Sections of 50 nm, as in the data that the network was made for, until there are some of your own.
    data=VolumeData(demo_shape=(44, 240, 240), demo_anisotropic=True, thickness=(0, 2, 2), valid_slices=18),
    optimiser=Optimiser("AdamW", lr=2e-4, weight_decay=5e-5),
    schedules={"lr": StepDecay(0.995, every=1000)},
    steps=1_000_000,
    max_runtime=14 * 24 * 3600,
    warp=0.5,
    warp_args=Warp(perspective=0.1),
    grey=0.5,
    grey_args=Grey(contrast=0.1, brightness=0.05, gamma=1.2),
    validate_every=500,
    validate_patches=8,
    checkpoint_every=2000,
    preview_every=500,
    preview_shape=(5, 128, 128),
)

if __name__ == "__main__":
    print(experiment.describe())
