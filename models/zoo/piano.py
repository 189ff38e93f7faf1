"""What comes next in a tune, by a perceptron that gets all steps at once: needs no data.

The package makes tunes (see `elektronn_tui.data.piano_rolls`) of 58 keys; the network hears 20 steps and says which
keys sound next. Silence outnumbers notes twenty to one, so the two classes have unlike weights. A step takes about
0.02 s on two cores; after 60 steps the balanced error is about 29 %.
"""

from elektronn_tui import Experiment, Optimiser, SequenceData, StepDecay
from elektronn_tui.data import PIANO_NOTES
from elektronn_tui.models import (
    AggregateLoss,
    Errors,
    Input,
    Input_like,
    Model,
    MultinoulliNLL,
    Perceptron,
    Softmax,
)


def create_model() -> Model:
    """Return a perceptron with three hidden layers."""
    chords = Input((None, 20 * PIANO_NOTES), "b,f", name="chords")

    hidden = Perceptron(Perceptron(Perceptron(chords, 700), 500), 300)

    logits = Perceptron(hidden, 2 * PIANO_NOTES, "lin", name="logits")
    notes = Softmax(logits, n_indep=PIANO_NOTES, name="notes")

    target = Input_like(notes, override_f=PIANO_NOTES, dtype="int64", name="target")
    weights = [0.2, 1.8] * PIANO_NOTES  # silent, sounding
    nll = MultinoulliNLL(notes, target, target_is_sparse=True, class_weights=weights, name="nll")
    loss = AggregateLoss([nll], name="loss")
    errors = Errors(notes, target, target_is_sparse=True, name="errors")
    return Model(
        input_node=chords,
        target_node=target,
        loss_node=loss,
        prediction_node=notes,
        prediction_ext=[loss, errors, notes],
    )


experiment = Experiment(
    name="piano",
    model=create_model,
    data=SequenceData(length=20, flat=True),
    scaling="dtype",
    optimiser=Optimiser("AdamW", lr=5e-4, weight_decay=5e-4),
    schedules={"lr": StepDecay(0.9, every=1000)},
    steps=10_000,
    batch_size=20,
    validate_every=200,
    validate_patches=500,
    checkpoint_every=1000,
    preview_every=0,
)

if __name__ == "__main__":
    print(experiment.describe())
