"""An experiment of two small convolutions on a volume of its own, which a test can spoil in one place."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

__all__ = ["SHAPE", "TEXT", "volume", "write"]

SHAPE = (16, 48, 48)

TEXT = """\
from elektronn_tui import Experiment, Optimiser, StepDecay, VolumeData


def create_model():
    from elektronn_tui.models import AggregateLoss, Conv, Input, Input_like, Model, MultinoulliNLL, Softmax

    raw = Input((1, 1, 4, 12, 12), "b,f,z,y,x", name="raw")
    out = Conv(raw, 4, (1, 3, 3), name="conv")
    probs = Softmax(Conv(out, 2, (3, 3, 3), activation_func="lin", name="logits"), name="probs")
    target = Input_like(probs, override_f=1, dtype="int64", name="target")
    loss = AggregateLoss([MultinoulliNLL(probs, target, target_is_sparse=True, name="nll")], name="loss")
    return Model(input_node=raw, target_node=target, loss_node=loss, prediction_node=probs)


experiment = Experiment(
    model=create_model,
    data=VolumeData(path="volume.h5", target="labels", valid_slices=4),
    steps=1_000_000,
    validate_every=0,
    checkpoint_every=0,
    preview_every=0,
    validate_patches=2,
)
"""


def volume(path: Path, **changed: np.ndarray) -> Path:
    """Write an HDF5 file with ``raw`` and ``labels``, or with other arrays in their places."""
    noise = np.random.default_rng(0).integers(0, 100, SHAPE, dtype=np.uint8)
    labels = (np.indices(SHAPE).sum(0) // 8 % 2).astype(np.int64)
    with h5py.File(path, "w") as file:
        for key, array in ({"raw": noise + labels.astype(np.uint8) * 100, "labels": labels} | changed).items():
            file[key] = array
    return path


def write(folder: Path, old: str = "", new: str = "", name: str = "tiny.py") -> Path:
    """Write the experiment, with one piece of its text exchanged; its data is ``volume.h5`` beside it."""
    text = TEXT.replace('"volume.h5"', repr(str(folder / "volume.h5")))
    assert old in text, old
    path = folder / name
    path.write_text(text.replace(old, new) if old else text)
    return path
