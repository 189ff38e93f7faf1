"""Cell membranes in a synthetic volume: the demo, needs no data.

The package makes a piece of tissue (64 sections to train on, 24 to validate) with exact cells, and a small 3D U-Net
learns where one cell ends and the next begins. On two cores the preview shows membranes within a minute.
"""

from elektronn_tui import DemoData, Experiment, Optimiser, StepDecay
from elektronn_tui.data import Grey
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
    """Return a U-Net of three levels; each output voxel sees 11 sections of 41 by 41 voxels at least."""
    raw = Input((1, 1, 18, 92, 92), "b,f,z,y,x", name="raw")

    fine = Conv(Conv(raw, 12, (1, 3, 3)), 12, (3, 3, 3))
    middle = Conv(Conv(Pool(fine, (1, 2, 2)), 24, (1, 3, 3)), 24, (3, 3, 3))
    coarse = Conv(Conv(Pool(middle, (1, 2, 2)), 48, (3, 3, 3)), 48, (3, 3, 3), dropout_rate=0.1, name="bottom")

    up = UpConvMerge(middle, coarse, 24)
    up = Conv(Conv(up, 24, (1, 3, 3)), 24, (1, 3, 3))
    up = UpConvMerge(fine, up, 12)
    up = Conv(Conv(up, 12, (1, 3, 3)), 12, (3, 3, 3))

    logits = Conv(up, 2, (1, 1, 1), activation_func="lin", name="logits")
    membrane = Softmax(logits, name="membrane")
    membrane.feature_names = ("inside", "membrane")

    target = Input_like(membrane, override_f=1, dtype="int64", name="target")
    # One voxel in eight is membrane: without weights "never" would be a good answer for a long while.
    nll = MultinoulliNLL(membrane, target, target_is_sparse=True, class_weights=[1.0, 3.0], name="nll")
    loss = AggregateLoss([nll], name="loss")
    errors = Errors(membrane, target, target_is_sparse=True, name="errors")
    return Model(
        input_node=raw,
        target_node=target,
        loss_node=loss,
        prediction_node=membrane,
        prediction_ext=[loss, errors, membrane],
    )


experiment = Experiment(
    name="membranes",
    model=create_model,
    data=DemoData(shape=(88, 256, 256), valid_slices=24),
    optimiser=Optimiser("AdamW", lr=2e-3, weight_decay=1e-4),
    schedules={"lr": StepDecay(0.9, every=1000)},
    steps=20_000,
    warp=0.5,
    grey=0.5,
    grey_args=Grey(contrast=0.1, brightness=0.05, gamma=1.2),
    validate_every=250,
    validate_patches=12,
    checkpoint_every=1000,
    preview_every=100,
    preview_shape=(12, 128, 128),
)

if __name__ == "__main__":
    print(experiment.describe())
