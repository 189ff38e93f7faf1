"""What may happen to examples: the settings of an experiment for it, and what data they are for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import ExperimentError

if TYPE_CHECKING:
    from .experiment import Experiment

__all__ = ["AUGMENTATIONS", "OF_SECTIONS", "augmentation_arguments", "probabilities", "refuse_augmentations"]

AUGMENTATIONS = {
    "warp": "Warp",
    "grey": "Grey",
    "elastic": "Elastic",
    "blur": "Blur",
    "noise": "Noise",
    "blobs": "Blobs",
    "flicker": "Flicker",
    "faint": "Faint",
    "defocus": "Defocus",
    "missing": "Missing",
    "slip": "Slip",
    "misalignment": "Misalignment",
}
"""Probabilities, each a setting and a control, and what `elektronn_tui.data` calls the class of ``NAME_args``."""

OF_SECTIONS = ("flicker", "faint", "defocus", "missing", "slip", "misalignment")


def probabilities(experiment: Experiment, spatial_shape: tuple[int | None, ...]) -> dict[str, float]:
    """Return the probabilities at start that make sense for inputs of `spatial_shape`, by their names.

    Raises
    ------
    ExperimentError
        One is set that is for patches of several sections, and the network reads single ones.
    """
    several = len(spatial_shape) == 3 and spatial_shape[0] != 1
    names = [name for name in AUGMENTATIONS if several or name not in OF_SECTIONS]
    if not several:
        refuse_augmentations(experiment, OF_SECTIONS, "it is for patches of several sections; the network reads one")
    return {name: getattr(experiment, name) for name in names}


def refuse_augmentations(experiment: Experiment, names: Iterable[str], reason: str) -> None:
    """Raise ExperimentError where one of `names` is set other than by default."""
    defaults = {field.name: field.default for field in dataclasses.fields(experiment)}
    for name in names:
        for setting in (name, f"{name}_args"):
            value = getattr(experiment, setting)
            if value != defaults[setting]:
                raise ExperimentError(f"{setting}: {value!r} is not allowed; {reason}")


def augmentation_arguments(experiment: Experiment, anisotropy: float = 1.0) -> dict[str, Any]:
    """Return the ``NAME_args`` of all augmentations, for `AugmentSettings`.

    Parameters
    ----------
    experiment : Experiment
    anisotropy : float
        Size of the data's voxels in z over their lateral size: where an experiment doesn't say how far.
    """
    from elektronn_tui import data

    warp = experiment.warp_args or data.Warp(anisotropy=anisotropy)
    grid = warp.anisotropy if warp.sample_aniso else 1.0
    arguments = {"warp_args": warp}
    for name, kind in AUGMENTATIONS.items():
        if name != "warp":
            made = getattr(data, kind)
            isotropic = "anisotropy" not in {field.name for field in dataclasses.fields(made)}
            default = made() if isotropic else made(anisotropy=grid)
            arguments[f"{name}_args"] = getattr(experiment, f"{name}_args") or default
    return arguments
