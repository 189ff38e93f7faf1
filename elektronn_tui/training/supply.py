"""From opened data to what a training needs of them: its examples, its validation set, its preview."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from logging import Logger
from typing import TYPE_CHECKING, Any

import numpy as np

from elektronn_tui.data import (
    ArrayExamples,
    AugmentSettings,
    Geometry,
    ImageSettings,
    Patches,
    Scaling,
    validation_examples,
)
from elektronn_tui.errors import DataError, ExperimentError

from .arrays import Arrays
from .augmentations import AUGMENTATIONS, augmentation_arguments, probabilities, refuse_augmentations
from .batches import Feeder, stacked
from .classes import Classes
from .datasets import Volumes
from .previews import Preview, Reconstructions

if TYPE_CHECKING:
    from elektronn_tui.models import Model, Node

    from .experiment import Experiment

__all__ = ["Supply", "data_controls", "open_supply"]


@dataclass(frozen=True)
class Supply:
    """What is trained on, whatever kind of data it comes from.

    Attributes
    ----------
    examples : Patches or ArrayExamples
        Makes the batch of any examples by their numbers.
    augmentation : AugmentSettings
        How far examples are varied; how often is for controls to say.
    validation : sequence of mapping
        Batches that are never trained on; empty for none.
    preview : Preview, Reconstructions or None
    no_preview : str
        Why there is none.
    """

    examples: Patches | ArrayExamples
    augmentation: AugmentSettings
    validation: Sequence[Mapping[str, np.ndarray]]
    preview: Preview | Reconstructions | None
    no_preview: str = ""


@dataclass(frozen=True)
class Opening:
    """What data are opened for."""

    experiment: Experiment
    model: Model
    feed: Feeder
    autocast: Callable[[], AbstractContextManager[Any]]
    logger: Logger


def data_controls(data: Volumes | Arrays, model: Model, experiment: Experiment) -> dict[str, Any]:
    """Return the controls that say how these data are varied, with their values at start; none if they can't be.

    Raises
    ------
    ExperimentError
        A way to vary them is set that is not for such data.
    """
    if isinstance(data, Arrays) and not _varied(data, model):
        return {}
    shift = {"shift": data.shift} if isinstance(data, Arrays) else {}
    return probabilities(experiment, model.input_node.shape.spatial_shape) | shift


def open_supply(data: Volumes | Arrays, opening: Opening) -> Supply:
    """Make examples of opened data.

    Raises
    ------
    ExperimentError, DataError
        Data and network don't go together: names the node, the axis and both shapes.
    """
    supply = _from_volumes(data, opening) if isinstance(data, Volumes) else _from_arrays(data, opening)
    scaling = supply.examples.scaling
    opening.model.scaling = None if scaling is None else scaling.to_dict()
    return supply


# --- volumes --------------------------------------------------------------------------------------


def _from_volumes(volumes: Volumes, opening: Opening) -> Supply:
    experiment, model = opening.experiment, opening.model
    if not volumes.train:
        raise ExperimentError("data: it gives no volumes to train on")
    channels, features = volumes.train[0].raw.channels, model.input_node.shape["f"]
    if features is not None and channels != features:
        raise ExperimentError(
            f"model: its input takes {features} channels, but {volumes.train[0].raw.name} has {channels}; "
            f"Input((1, {channels}, ...), ...) would fit"
        )
    _check_target_channels(volumes, model)
    opening.feed.negative_is_unknown = True
    geometry = Geometry.from_shapes(model.input_node.shape, _output(model).shape)
    classes = Classes.of(model)
    what: dict[str, Any] = {"classes": classes.n_class if classes else None, "ignore": volumes.ignore}
    scaling = _given_scaling(opening)
    if scaling is None and experiment.scaling == "measured":
        scaling = Scaling.measured(volumes.train)
    lazy = _class_masks(volumes, model)
    _check_vectors(volumes, experiment)
    held_out = f" ({volumes.split})" if volumes.split else ""
    with _named(f"training{held_out}"):
        patches = Patches(
            volumes.train,
            geometry,
            seed=experiment.seed,
            scaling=scaling,
            selection=volumes.selection,
            class_masks=bool(lazy),
            **what,
        )
    patches.warm_up()
    validation: list[dict[str, np.ndarray]] = []
    if volumes.valid:
        with _named(f"validation{held_out}"):
            examples = validation_examples(
                volumes.valid, geometry, patches.scaling, experiment.validate_patches, **what
            )
        validation = stacked(examples, experiment.batch_size, lazy)
    augmentation = AugmentSettings(**augmentation_arguments(experiment, _anisotropy(volumes)))
    preview = _volume_preview(volumes, geometry, patches.scaling, opening)
    if isinstance(preview, str):
        return Supply(patches, augmentation, validation, None, preview)
    return Supply(patches, augmentation, validation, preview)


def _volume_preview(volumes: Volumes, geometry: Geometry, scaling: Scaling, opening: Opening) -> Preview | str:
    """Return what predicts the preview region, or why there is nothing to predict."""
    experiment, model = opening.experiment, opening.model
    pair = volumes.preview or next(iter([*volumes.valid, *volumes.train]))
    shape = model.prediction_node.shape
    if shape.spatial_tags != model.input_node.shape.spatial_tags or shape.tags[:2] != ("b", "f"):
        return f"the prediction {shape.text} is no image"
    try:
        return Preview(
            model,
            opening.feed,
            pair,
            geometry,
            scaling,
            experiment.preview_shape,
            experiment.preview_position,
            opening.autocast,
        )
    except DataError as error:
        return str(error)


def _output(model: Model) -> Node:
    """Return the node whose voxels the target's are: without a target the prediction, or the input itself."""
    if model.target_node is not None:
        return model.target_node
    spatial = model.input_node.shape.spatial_tags
    return model.prediction_node if model.prediction_node.shape.spatial_tags == spatial else model.input_node


def _check_target_channels(volumes: Volumes, model: Model) -> None:
    target = volumes.train[0].target
    if model.target_node is None:
        return
    if target is None:
        raise ExperimentError(f"data: it gives no target, but the model has one, {model.target_node.name}")
    wanted = model.target_node.shape["f"]
    if wanted is not None and target.channels != wanted:
        raise ExperimentError(
            f"model: its target {model.target_node.name} {model.target_node.shape.text} takes {wanted} features, but "
            f"{target.name} has {target.channels}; override_f={target.channels} would fit"
        )


def _class_masks(volumes: Volumes, model: Model) -> tuple[str, ...]:
    """Return the inputs by which a model is told which classes are labelled, or refuse data that need them."""
    names = ("mask_class_labeled", "mask_class_not_present")
    there = tuple(name for name in names if name in model)
    classes = Classes.of(model)
    for pair in (*volumes.train, *volumes.valid):
        for name, given in zip(names, (pair.labelled is not None, bool(pair.absent)), strict=True):
            if given and name not in there:
                features = classes.n_class * classes.n_indep if classes else "n"
                raise ExperimentError(
                    f"model: {pair.name} says which classes are {'labelled' if name == names[0] else 'absent'}, but "
                    f"the network can't be told: give its loss {name}=Input((None, {features}), 'b,f', name={name!r})"
                )
    if there and classes is None:
        raise ExperimentError(f"model: its input {there[0]} is for a prediction of classes")
    return there


def _check_vectors(volumes: Volumes, experiment: Experiment) -> None:
    if experiment.warp_args is not None and experiment.warp_args.perspective:
        for pair in volumes.train:
            if pair.vectors:
                raise ExperimentError(f"warp_args: the vectors of {pair.name} can't follow a perspective; set it to 0")


def _anisotropy(volumes: Volumes) -> float:
    """Return how much longer voxels are in z than in y and x; 1 where the volumes don't say."""
    sizes = [pair.raw.voxel_size for pair in volumes.train if pair.raw.voxel_size is not None]
    return 2 * sizes[0][0] / (sizes[0][1] + sizes[0][2]) if sizes else 1.0


@contextlib.contextmanager
def _named(part: str) -> Iterator[None]:
    """Say which part of the data an error is about: both may be cut from one volume."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{part}: {error}") from error


def _given_scaling(opening: Opening) -> Scaling | None:
    scaling = opening.model.scaling
    return None if scaling is None else Scaling.from_dict(scaling)


# --- arrays ---------------------------------------------------------------------------------------


def _from_arrays(data: Arrays, opening: Opening) -> Supply:
    experiment, model = opening.experiment, opening.model
    node = model.input_node
    tags = [tag for tag in node.shape.tags if tag != "b"]
    channel_axis = 1 + tags.index("f") if "f" in tags else None
    varied = _varied(data, model)
    if not varied:
        _refuse_variations(data, opening)
    raw = _fitted(data.train, node, f"{data.name}: inputs", crop=varied)
    target = _target(data.train_target, data, model, "training", opening.logger)
    scaling = None
    if "float" in str(node.dtype):
        scaling = _given_scaling(opening)
        if scaling is None and experiment.scaling == "measured":
            scaling = ArrayExamples.measured(raw, channel_axis, data.name)
        scaling = scaling or Scaling.for_dtype(raw.dtype)
    elif raw.dtype.kind == "f":
        raise ExperimentError(f"model: its input {node.name} takes {node.dtype}, but {data.name} holds {raw.dtype}")
    patch: list[int] | None = None
    if varied:
        extent = raw.shape[-len(node.shape.spatial_shape) :]
        patch = [n or m for n, m in zip(node.shape.spatial_shape, extent, strict=True)]
    what: dict[str, Any] = {"scaling": scaling, "channel_axis": channel_axis, "patch_shape": patch}
    examples = ArrayExamples(raw, target, seed=experiment.seed, name=data.name, **what)
    validation: list[Mapping[str, np.ndarray]] = []
    held_out = examples
    if data.valid is not None:
        valid = _fitted(data.valid, node, f"{data.name}: inputs for validation", crop=varied)
        valid_target = _target(data.valid_target, data, model, "validation", opening.logger)
        held_out = ArrayExamples(valid, valid_target, name=f"{data.name} for validation", **what)
        chosen = _spread(len(valid), experiment.validate_patches)
        size = experiment.batch_size
        validation = [held_out.plain(chosen[first : first + size]) for first in range(0, len(chosen), size)]
    augmentation = ImageSettings(**augmentation_arguments(experiment))
    preview = None
    if Reconstructions.possible(model):
        preview = Reconstructions(model, opening.feed, held_out, opening.autocast)
    if not varied and _is_image(node):
        opening.logger.info("examples are used as they are: warp, grey and shift are for images without a target image")
    no_preview = "" if preview else f"the prediction {model.prediction_node.shape.text} is no image like the input"
    return Supply(examples, augmentation, validation, preview, no_preview)


def _is_image(node: Node) -> bool:
    """Tell whether the axes of a node are b, f and the space, in this order."""
    shape = node.shape
    return len(shape.spatial_tags) in (2, 3) and shape.tags == ("b", "f", *shape.spatial_tags)


def _varied(data: Arrays, model: Model) -> bool:
    """Tell whether examples may be cut and varied: images, whose target doesn't move with them."""
    node, target = model.input_node, model.target_node
    return _is_image(node) and "float" in str(node.dtype) and (target is None or not target.shape.spatial_tags)


def _refuse_variations(data: Arrays, opening: Opening) -> None:
    experiment, node = opening.experiment, opening.model.input_node
    reason = (
        f"it is for images without a target image; {data.name} for {node.name} {node.shape.text} are used as they are"
    )
    refuse_augmentations(experiment, [name for name in AUGMENTATIONS if name not in ("warp", "grey")], reason)
    given = {"warp_args": experiment.warp_args, "grey_args": experiment.grey_args, "shift": data.shift}
    for name, value in given.items():
        if value:
            raise ExperimentError(f"{name}: {reason}")


def _fitted(array: np.ndarray, node: Node, what: str, *, crop: bool = False) -> np.ndarray:
    """Return a view of batch-first `array` with all axes of `node`, or say which of them doesn't fit."""
    tags = [tag for tag in node.shape.tags if tag != "b"]
    sizes = [node.shape[tag] for tag in tags]
    described = f"{what} have the shape {array.shape}, but {node.name} is {node.shape.text}"
    fitted = array
    if array.ndim == len(tags) and "f" in tags and node.shape["f"] in (1, None):
        fitted = np.expand_dims(array, 1 + tags.index("f"))
    if fitted.ndim != 1 + len(tags):
        raise ExperimentError(f"{described}: (examples, {', '.join(tags)}) is needed")
    for tag, size, found in zip(tags, sizes, fitted.shape[1:], strict=True):
        larger = crop and tag in node.shape.spatial_tags
        if size is not None and (found < size if larger else found != size):
            raise ExperimentError(
                f"{described}: axis {tag} has {found} entries, {size}{' at least' if larger else ''} are needed"
            )
    return fitted


def _target(array: np.ndarray | None, data: Arrays, model: Model, part: str, logger: Logger) -> np.ndarray | None:
    node = model.target_node
    if node is None:
        return None
    if array is None:
        raise ExperimentError(f"data: {data.name} has no target for {part}, but the model has one, {node.name}")
    target = _fitted(array, node, f"{data.name}: targets for {part}")
    if "float" in str(node.dtype):
        return target
    if target.dtype.kind not in "iub":
        raise ExperimentError(f"model: its target {node.name} takes {node.dtype}, but {data.name} holds {target.dtype}")
    classes = Classes.of(model)
    if classes is None or target.size == 0:
        return target
    labels = np.unique(target)
    labels = labels[labels >= 0]
    if len(labels) == 0:
        raise DataError(f"{data.name}: no target for {part} counts; class ids are 0 to {classes.n_class - 1}")
    if labels[-1] >= classes.n_class:
        raise DataError(
            f"{data.name}: a target for {part} is {labels[-1]}; with {classes.n_class} classes of "
            f"{model.prediction_node.name} class ids are 0 to {classes.n_class - 1}, and below 0 what doesn't count"
        )
    missing = sorted(set(range(classes.n_class)) - set(labels.tolist()))
    if missing:
        names = ", ".join(str(label) for label in missing[:10]) + (", ..." if len(missing) > 10 else "")
        logger.warning("%s: there is no example for %s of class %s", data.name, part, names)
    return target


def _spread(length: int, n: int) -> list[int]:
    """Return `n` numbers below `length`, evenly spread; all of them if there are no more."""
    return list(range(length)) if n >= length else [(2 * k + 1) * length // (2 * n) for k in range(n)]
