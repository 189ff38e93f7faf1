"""Cell boundaries in FIB-SEM from segment ids: start with --set data.path=FILE.h5.

Made for FlyEM's FIB-25 (*Drosophila* medulla, 10 nm isotropic; datasets ``raw`` and ``lab``), good for any isotropic
volume with instance labels. Boundaries are made of the ids; the last 30 sections are held out for validation.
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
    """Return a U-Net of three levels."""
    raw = Input((1, 1, 20, 108, 108), "b,f,z,y,x", name="raw")

    fine = Conv(Conv(raw, 16, (1, 3, 3)), 16, (3, 3, 3))
    middle = Conv(Conv(Pool(fine, (1, 2, 2)), 32, (1, 3, 3)), 32, (3, 3, 3))
    coarse = Conv(Conv(Pool(middle, (1, 2, 2)), 64, (3, 3, 3)), 64, (3, 3, 3), dropout_rate=0.1, name="bottom")

    up = UpConvMerge(middle, coarse, 32)
    up = Conv(Conv(up, 32, (1, 3, 3)), 32, (1, 3, 3))
    up = UpConvMerge(fine, up, 16)
    up = Conv(Conv(up, 16, (1, 3, 3)), 16, (3, 3, 3))

    logits = Conv(up, 2, (1, 1, 1), activation_func="lin", name="logits")
    boundary = Softmax(logits, name="boundary")
    boundary.feature_names = ("inside", "boundary")

    target = Input_like(boundary, override_f=1, dtype="int64", name="target")
    nll = MultinoulliNLL(boundary, target, target_is_sparse=True, class_weights=[1.0, 2.0], name="nll")
    loss = AggregateLoss([nll], name="loss")
    errors = Errors(boundary, target, target_is_sparse=True, name="errors")
    return Model(
        input_node=raw,
        target_node=target,
        loss_node=loss,
        prediction_node=boundary,
        prediction_ext=[loss, errors, boundary],
    )


experiment = Experiment(
    name="fib25",
    model=create_model,
    # Id 0 is what nobody has labelled: it teaches nothing.
    data=VolumeData(label_key="lab", background="ignore"),
    optimiser=Optimiser("AdamW", lr=2e-3, weight_decay=1e-4),
    schedules={"lr": StepDecay(0.9, every=1000)},
    steps=100_000,
    warp=0.7,
    # The tissue is isotropic: no direction is special, so patches may be turned in all three dimensions.
    warp_args=Warp(lock_z=False),
    grey=0.5,
    grey_args=Grey(contrast=0.1, brightness=0.05, gamma=1.2),
    validate_every=500,
    validate_patches=24,
    checkpoint_every=2000,
    preview_every=500,
    preview_shape=(12, 160, 160),
)

if __name__ == "__main__":
    print(experiment.describe())
