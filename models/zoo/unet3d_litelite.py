"""Barriers between neurites in anisotropic volumes: a thin U-Net whose deepest level is enlarged fourfold at once.

Input 22×140×140, output 10×36×36, 6, 52, 52 voxels (z, y, x) inside on each side; 352,207 parameters. A step takes
about 0.6 s on two cores; after 80 steps the balanced error is about 13 %. Learns from a synthetic volume of 50×4×4 nm,
or from your own: ``--set data.path=FILE.h5`` with datasets ``raw`` and ``labels``, which are segment ids (or, with
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

    level0 = Conv(Conv(raw, 20, flat), 20, flat)
    level1 = Conv(Conv(Pool(level0, half), 30, flat), 30, flat)
    level2 = Conv(Conv(Pool(level1, half), 35, flat), 35, flat)
    level3 = Conv(Pool(level2, half), 42, cube)
    bottom = Conv(Pool(level3, half), 42, cube)

    up = UpConvMerge(level2, bottom, 45)
    up = Conv(Conv(up, 42, flat), 42, flat)
    up = UpConvMerge(level1, up, 42)
    up = Conv(Conv(up, 35, cube), 35, cube)
    up = UpConvMerge(level0, up, 30)
    out = Conv(Conv(up, 20, cube), 20, cube)

    logits = Conv(out, 2, (1, 1, 1), activation_func="lin")
    barrier = Softmax(logits)
    target = Input_like(barrier, override_f=1, dtype="int64", name="target")
    # One voxel in twenty is a barrier: without weights "never" would be a good answer for a long while.
    nll = MultinoulliNLL(barrier, target, target_is_sparse=True, class_weights=[1.0, 5.0], name="nll")
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
    name="unet3d_litelite",
    model=create_model,
    # Sections of 50 nm, as in the data that the network was made for, until there are some of your own.
    data=VolumeData(demo_shape=(44, 240, 240), demo_anisotropic=True, thickness=(0, 2, 2), valid_slices=18),
    optimiser=Optimiser("AdamW", lr=1.2e-3, weight_decay=5e-5),
    schedules={"lr": StepDecay(0.99, every=1000)},
    steps=150_000,
    max_runtime=24 * 3600,
    warp=0.1,
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
