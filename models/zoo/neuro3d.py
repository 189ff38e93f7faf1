"""Barriers between neurites in anisotropic volumes: ELEKTRONN2's network of eleven 3D convolutions.

Input 23×185×185, output 5×21×21 with strides 2, 4, 4; field of view 15×105×105 (z, y, x); 2,756,042 parameters. A step
takes about 1.5 s on two cores; after 60 of them the balanced validation error was 24 %. Learns from a synthetic volume
of 50×4×4 nm, or from your own: ``--set data.path=FILE.h5`` with datasets ``raw`` and ``labels``, which are segment ids
(or, with ``--set data.target=labels``, 1 for barriers and 0 for the rest).
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
    Softmax,
)


def create_model() -> Model:
    """Return the network."""
    raw = Input((None, 1, 23, 185, 185), "b,f,z,y,x", name="raw")

    out = Conv(raw, 20, (1, 6, 6), (1, 2, 2))
    out = Conv(out, 30, (1, 5, 5), (1, 2, 2))
    out = Conv(out, 40, (1, 5, 5))
    out = Conv(out, 80, (4, 4, 4), (2, 1, 1))
    out = Conv(out, 100, (3, 4, 4))
    out = Conv(out, 100, (3, 4, 4))
    out = Conv(out, 150, (2, 4, 4))
    out = Conv(out, 200, (1, 4, 4))
    out = Conv(out, 200, (1, 4, 4))
    out = Conv(out, 200, (1, 1, 1))

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
    name="neuro3d",
    model=create_model,
    # Sections of 50 nm, as in the data that the network was made for, until there are some of your own.
    data=VolumeData(demo_shape=(44, 240, 240), demo_anisotropic=True, thickness=(0, 2, 2), valid_slices=18),
    # Filters of thousands of weights: at ten times the rate, as in ELEKTRONN2, all units were 0 after ten steps.
    optimiser=Optimiser("AdamW", lr=5e-5, weight_decay=5e-5),
    schedules={"lr": StepDecay(0.995, every=1000)},
    steps=1_000_000,
    max_runtime=7 * 24 * 3600,
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
