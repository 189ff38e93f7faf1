"""``elektronn sizes``: which patch sizes go through a network, or through layers that are still to be written."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from . import DONE, USAGE
from .output import add_json, print_json, print_line, print_table, warn


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="an experiment (file, or name in the zoo), a model file, or a run"
    )
    parser.add_argument(
        "--filters",
        nargs="+",
        metavar="Z,Y,X",
        help="instead of a MODEL: the filters of a chain of convolutions, such as --filters 1,6,6 1,5,5 4,4,4",
    )
    parser.add_argument(
        "--pools", nargs="+", metavar="Z,Y,X", help="and their poolings, such as --pools 1,2,2 1,2,2 2,1,1"
    )
    parser.add_argument("--patch", metavar="Z,Y,X", help="size that the input should have (default: that of the model)")
    parser.add_argument("--output", metavar="Z,Y,X", help="size that the output should have")
    parser.add_argument("--mfp", action="store_true", help="with max-fragment pooling, which other sizes fit")
    parser.add_argument("--center", action="store_true", help="of filters: refuse an even field of view")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Work them out."""
    if (args.model is None) == (args.filters is None):
        warn("either a MODEL or --filters is needed")
        return USAGE
    try:
        filters, pools = ([_numbers(text) for text in texts or ()] for texts in (args.filters, args.pools))
        patch, output = (None if text is None else _numbers(text) for text in (args.patch, args.output))
    except ValueError as error:
        warn(f"{error}: whole numbers with commas are needed, such as 32,128,128")
        return USAGE
    return _of_chain(args, filters, pools, patch, output) if filters else _of_model(args, patch, output)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(n) for n in text.split(","))
    except ValueError:
        raise ValueError(text) from None


def _of_chain(
    args: argparse.Namespace,
    filters: Sequence[tuple[int, ...]],
    pools: Sequence[tuple[int, ...]],
    patch: tuple[int, ...] | None,
    output: tuple[int, ...] | None,
) -> int:
    from elektronn_tui.models.sizes import chain_sizes

    found = chain_sizes(
        filters, pools or 1, patch, mfp=args.mfp, force_center=args.center, desired_output=output, ndim=len(filters[0])
    )
    if args.json:
        print_json([asdict(axis) for axis in found.axes])
        return DONE
    names = "zyx"[-len(found.axes) :] if len(found.axes) <= 3 else range(len(found.axes))
    print_table(found.rows(), ("layer", "filtered", "pooled", "field of view", "stride"))
    print_line()
    rows = []
    for name, axis in zip(names, found.axes, strict=True):
        at = axis.valid_patch_sizes.index(axis.patch_size)
        near = axis.valid_patch_sizes[max(at - 3, 0) : at + 4]
        rows.append(
            (
                str(name),
                str(axis.patch_size),
                str(axis.output_size),
                str(axis.pred_stride),
                f"{axis.offset:g}",
                " ".join(f"[{n}]" if n == axis.patch_size else str(n) for n in near),
            )
        )
    print_table(rows, ("axis", "patch", "output", "stride", "offset", "sizes near it that fit"))
    return DONE


def _of_model(args: argparse.Namespace, patch: tuple[int, ...] | None, output: tuple[int, ...] | None) -> int:
    from elektronn_tui.models.sizes import model_sizes
    from elektronn_tui.training.opening import open_model

    model = open_model(args.model)
    found = model_sizes(model, patch, output=output, mfp=args.mfp)
    shape = model.prediction_node.shape
    if args.json:
        geometry = {"fov": shape.fov, "strides": shape.strides, "offsets": shape.offsets}
        print_json({"sizes": [asdict(choice) for choice in found], **geometry})
        return DONE
    tags = model.input_node.shape.spatial_tags
    rows = []
    for axis, tag in enumerate(tags):
        here = [choice for choice in found if choice.axis == tag]
        (now,) = (choice for choice in here if choice.chosen)
        known = axis < len(shape.fov)
        rows.append(
            (
                tag,
                str(now.size),
                str(now.output),
                *((str(shape.fov[axis]), f"{shape.strides[axis]:g}", str(shape.offsets[axis])) if known else "---"),
                " ".join(f"{'[' if c.chosen else ''}{c.size}→{c.output}{']' if c.chosen else ''}" for c in here),
            )
        )
    of_each = "the output of each fragment" if args.mfp else "their outputs"
    print_line(f"{model.name}: patch sizes that go through it, and {of_each}")
    print_line()
    print_table(rows, ("axis", "patch", "output", "fov", "stride", "offset", "sizes near it that fit"))
    return DONE
