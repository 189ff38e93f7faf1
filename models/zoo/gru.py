"""What comes next in a tune, by a gated recurrent unit: needs no data.

The package makes tunes (see `elektronn_tui.data.piano_rolls`) of 58 keys; the network hears 40 steps and says which
keys sound next. Silence outnumbers notes twenty to one, so the two classes have unlike weights.
"""

from elektronn_tui import Experiment, Optimiser, SequenceData, StepDecay
from elektronn_tui.data import PIANO_NOTES
from elektronn_tui.models import (
    GRU,
    AggregateLoss,
    Errors,
    InitialState_like,
    Input,
    Input_like,
    Model,
    MultinoulliNLL,
    Perceptron,
    Scan,
    Softmax,
    split,
)


def create_model() -> Model:
    """Return a GRU of 750 features over 40 steps, of which the last decides."""
    chords = Input((40, None, PIANO_NOTES), "r,b,f", name="chords")

    first, _ = split(chords, "r", index=1, strip_singleton_dims=True, name=["first", "rest"])
    start = InitialState_like(first, 750, init_kwargs={"scale": 0.1, "mode": "fix-uni"}, name="start")
    gru = GRU(first, start, 750)
    last = Scan(gru, in_memory=start, in_iterate=chords, in_iterate_0=first, last_only=True)

    logits = Perceptron(last, 2 * PIANO_NOTES, "lin", name="logits")
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
    name="gru",
    model=create_model,
    data=SequenceData(length=40),
    scaling="dtype",
    optimiser=Optimiser("AdamW", lr=1.4e-3, weight_decay=5e-4),
    schedules={"lr": StepDecay(0.9, every=1000)},
    steps=10_000,
    batch_size=40,
    validate_every=200,
    validate_patches=500,
    checkpoint_every=1000,
    preview_every=0,
)

if __name__ == "__main__":
    print(experiment.describe())
