"""Input sizes that a network can take: the nearest ones to a wanted size."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import ModelError, ShapeError

from .conv import Conv
from .inputs import Input
from .plan import walk
from .pooling import Pool
from .shape import TaggedShape

if TYPE_CHECKING:
    from .model import Model
    from .node import Node

__all__ = ["centred_geometry", "fitting_patch_size", "is_pooled", "output_size"]

REACH = 512
"""How far from the wanted size a fitting one is looked for, in voxels."""


def is_pooled(node: Node) -> bool:
    """Return whether a node pools, which it can do by fragments as well."""
    return isinstance(node, Conv | Pool) and max(node.pool_shape) > 1


def centred_geometry(name: str, output: TaggedShape, raw: TaggedShape) -> tuple[list[int], list[float]]:
    """Return field of view and centre, by axis, of an output that lies in the middle of the input.

    Raises
    ------
    ShapeError
        If the output can't lie there: names the axis.
    """
    fov, centre = [], []
    for tag, n_in, n_out, stride in zip(
        raw.spatial_tags, raw.spatial_shape, output.spatial_shape, output.strides, strict=True
    ):
        difference = (n_in or 0) - (stride * ((n_out or 1) - 1) + 1)
        if difference % 2:
            error = ShapeError(
                f"The output {name!r} {output.text} can't be centred in the input "
                f"{raw.text}: on axis {tag} it leaves {difference:g} voxels, which is odd."
            )
            error.axis = tag
            raise error
        fov.append(int(difference))
        centre.append(difference / 2)
    return fov, centre


def fitting_patch_size(
    model: Model, size: Sequence[int], *, mfp: bool = False, exact: bool = False
) -> tuple[tuple[int, ...], dict[str, str]]:
    """Return the size nearest to a wanted one that goes through a model up to its prediction.

    Parameters
    ----------
    model : Model
    size : sequence of int
        Wanted input size, one entry for each spatial axis.
    mfp : bool
        The model as it is with fragments in all its poolings.
    exact : bool
        Refuse a size that doesn't fit.

    Returns
    -------
    size : tuple of int
        On each axis the nearest that fits, the smaller one of two that are as near.
    reasons : dict of str
        By axis that was changed, why the wanted size doesn't fit.

    Raises
    ------
    ShapeError
        If `exact` and the size doesn't fit, naming axis and what fits, or if none near it does.
    ModelError
        If `size` is no list of whole numbers for each axis.
    """
    raw = model.input_node.shape
    wanted = _checked_size(raw, size)
    trial = dict(zip(raw.spatial_tags, wanted, strict=True))
    candidates = {tag: _near(n) for tag, n in trial.items()}
    reasons: dict[str, str] = {}
    nodes = _stand_ins(model, mfp)
    while True:
        try:
            _infer(model, nodes, trial, centred=not mfp)
            break
        except ShapeError as error:
            tag = error.axis
            if tag not in trial:
                raise
            reasons.setdefault(tag, str(error))
            following = next(candidates[tag], None)
            if following is None:
                raise ShapeError(
                    f"No size of axis {tag} near {dict(zip(raw.spatial_tags, wanted, strict=True))[tag]} goes through "
                    f"model {model.name!r}. {reasons[tag]}"
                ) from None
            trial[tag] = following
    result = tuple(trial[tag] for tag in raw.spatial_tags)
    if exact and result != wanted:
        tag = next(iter(reasons))
        misfit = ShapeError(
            f"The patch size {wanted} doesn't fit model {model.name!r}; the nearest that fits is {result}. "
            f"{reasons[tag]}"
        )
        misfit.axis = tag
        raise misfit
    return result, reasons


def output_size(model: Model, size: Sequence[int], *, mfp: bool = False) -> tuple[int, ...]:
    """Return the spatial size of the prediction for an input of this size; with `mfp` that of one fragment.

    Raises
    ------
    ShapeError
        If the size doesn't go through the model.
    """
    raw = model.input_node.shape
    wanted = dict(zip(raw.spatial_tags, _checked_size(raw, size), strict=True))
    shape = _infer(model, _stand_ins(model, mfp), wanted, centred=not mfp)
    return tuple(n or 1 for n in shape.spatial_shape)


def _checked_size(raw: TaggedShape, size: Sequence[int]) -> tuple[int, ...]:
    try:
        wanted = tuple(int(n) for n in size)
        good = all(int(n) == n and n > 0 for n in size)
    except (TypeError, ValueError):
        raise ModelError(f"imposed_patch_size must be whole numbers, not {size!r}.") from None
    if len(wanted) != raw.ndim or not good:
        raise ModelError(
            f"imposed_patch_size must have one whole number from 1 on for each of the {raw.ndim} spatial axes "
            f"{', '.join(raw.spatial_tags)}, not {size!r}."
        )
    return wanted


def _near(n: int) -> Iterator[int]:
    for distance in range(1, REACH + 1):
        if n > distance:
            yield n - distance
        yield n + distance


def _stand_ins(model: Model, mfp: bool) -> Mapping[Node, Node]:
    """Return copies of the nodes up to the prediction, with fragments or as they are; only good for shapes."""
    result: dict[Node, Node] = {}
    for node in walk([model.prediction_node]):
        result[node] = copy.copy(node)
        if mfp and is_pooled(node):
            result[node].__dict__["mfp"] = True
    return result


def _infer(model: Model, nodes: Mapping[Node, Node], size: Mapping[str, int], *, centred: bool) -> TaggedShape:
    """Return the shape of the prediction for an input of this size."""
    raw = model.input_node.shape
    shapes: dict[Node, Any] = {}
    for node, stand_in in nodes.items():
        if isinstance(node, Input):
            shape = node.shape
            if node is model.input_node or shape.spatial_shape == raw.spatial_shape:
                for tag, n in size.items():
                    shape = shape.updateshape(tag, n)
            shapes[node] = shape
        elif node.parents:
            shapes[node] = stand_in.infer_shape(*(shapes[parent] for parent in node.parents))
        else:
            shapes[node] = node.shape
    output = shapes[model.prediction_node]
    if centred and output.ndim and output.spatial_tags == raw.spatial_tags and min(output.fov) < 0:
        centred_geometry(model.prediction_node.name, output, shapes[model.input_node])
    result: TaggedShape = output
    return result
