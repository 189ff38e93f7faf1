"""The merge of two resolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from elektronn_tui.errors import ModelError, ShapeError

from .cropping import Crop
from .declared import checked
from .merging import Add, Concat
from .node import Node
from .upconv import UpConv

__all__ = ["AutoMerge", "UpConvMerge"]


@checked
def AutoMerge(
    parent1: Node,
    parent2: Node,
    upconv_n_f: int | None = None,
    merge_mode: Literal["concat", "add"] = "concat",
    disable_upconv: bool = False,
    upconv_kwargs: Mapping[str, Any] | None = None,
    name: str = "merge",
    print_repr: bool = False,
) -> Node:
    """Join two nodes of unlike resolution: enlarge the coarse one, crop the larger one, merge.

    Parameters
    ----------
    parent1, parent2 : Node
        In any order; the one with the larger strides is the coarse one.
    upconv_n_f : int, optional
        Features of the `UpConv`; needed if there is one.
    merge_mode : {'concat', 'add'}
        Coarse features come first.
    disable_upconv : bool
        Never enlarge: nodes of unlike strides are then refused, those of equal strides only cropped and merged.
    upconv_kwargs : mapping, optional
        More arguments of the `UpConv`, as ``{"activation_func": "lin", "name": "up"}``.
    name : str
        Of the merging node.
    print_repr : bool

    Returns
    -------
    Concat or Add

    Raises
    ------
    ShapeError
        If the axes differ, the strides don't divide, the sizes differ by an odd number, or, for ``'add'``, the
        features.
    ModelError
        If `upconv_n_f` is missing, the mode unknown, or `upconv_kwargs` sets what is computed here.

    Notes
    -----
    Where the enlarged node is the larger one, whole voxels are cut off before it is enlarged: `UpConv` has no
    overlap, so the values are the same and its cost is that of what remains. With batch normalisation all is cut
    off behind it, because the statistics are those of all voxels.
    """
    what = f"Merge {name!r} of {parent1.name!r} {parent1.shape.text} and {parent2.name!r} {parent2.shape.text}"
    if merge_mode not in ("concat", "add"):
        raise ModelError(f"{what}: merge_mode must be 'concat' or 'add', not {merge_mode!r}.")
    if len(parent1.shape) != len(parent2.shape) or parent1.shape.spatial_axes != parent2.shape.spatial_axes:
        raise ShapeError(f"{what}: both need the same axes.")
    pairs = list(zip(parent1.shape.strides, parent2.shape.strides, strict=True))
    low, high = (parent1, parent2) if any(s2 // s1 < 1 for s1, s2 in pairs) else (parent2, parent1)
    factors = []
    for s_low, s_high in zip(low.shape.strides, high.shape.strides, strict=True):
        if s_low < s_high or s_low % s_high:
            raise ShapeError(
                f"{what}: the strides {parent1.shape.strides} and {parent2.shape.strides} don't divide: "
                "one of the two must be the finer one on all axes, by whole factors."
            )
        factors.append(int(s_low // s_high))
    if max(factors, default=1) > 1:
        if disable_upconv:
            raise ShapeError(
                f"{what}: the strides {parent1.shape.strides} and {parent2.shape.strides} differ; without "
                "disable_upconv=True the coarse one would be enlarged."
            )
        if upconv_n_f is None:
            raise ModelError(f"{what}: upconv_n_f is needed, because {low.name!r} must be enlarged by {factors}.")
        options = {"print_repr": print_repr, **(upconv_kwargs or {})}
        if taken := options.keys() & {"parent", "n_f", "pool_shape"}:
            raise ModelError(f"{what}: upconv_kwargs can't hold {', '.join(sorted(taken))}; that is computed here.")
        if not options.get("batch_normalisation"):
            early = [
                max(n * u - m, 0) // (2 * u) if n is not None and m is not None else 0
                for n, m, u in zip(low.shape.spatial_shape, high.shape.spatial_shape, factors, strict=True)
            ]
            if any(early):
                low = Crop(low, early, print_repr=print_repr)
        low = UpConv(low, upconv_n_f, factors, **options)
    crop_low, crop_high = [], []
    for tag, n_low, n_high in zip(
        low.shape.spatial_tags, low.shape.spatial_shape, high.shape.spatial_shape, strict=True
    ):
        if n_low is None or n_high is None:
            raise ShapeError(f"{what}: axis {tag} must have a known size.")
        difference = n_high - n_low
        if difference % 2:
            raise ShapeError(
                f"{what}: on axis {tag} the sizes {n_high} and {n_low} (enlarged) differ by an odd number, so they "
                "can't be centred on each other; another input size or filter is needed."
            )
        crop_high.append(max(difference // 2, 0))
        crop_low.append(max(-difference // 2, 0))
    if any(crop_high):
        high = Crop(high, crop_high, print_repr=print_repr)
    if any(crop_low):
        low = Crop(low, crop_low, print_repr=print_repr)
    if merge_mode == "add":
        return Add(low, high, name=name, print_repr=print_repr)
    return Concat((low, high), axis="f", name=name, print_repr=print_repr)


UpConvMerge = AutoMerge
