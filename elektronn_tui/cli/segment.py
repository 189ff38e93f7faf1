"""``elektronn segment PREDICTION OUTPUT``: from boundaries or affinities to segments, block by block."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from . import DONE, USAGE
from .block_progress import BlockProgressShown
from .output import add_json, warn

GIB = 2**30


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "prediction", metavar="PREDICTION", help="of boundaries or affinities: FILE:KEY or any other address"
    )
    parser.add_argument(
        "output", metavar="OUTPUT", help="to make: an HDF5 file, FILE.h5:KEY (default key: segments), or FOLDER.zarr"
    )
    parser.add_argument(
        "--method",
        choices=("watershed", "mutex", "components"),
        default="watershed",
        help="watershed from seeds inside of objects (the default), mutex watershed of near and far affinities, or "
        "connected components",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        help="below it boundaries are none, above it affinities join (0 to 1; default: 0.5, watershed 0.1, mutex 0)",
    )
    parser.add_argument(
        "--seed-distance",
        type=float,
        metavar="NM",
        help="watershed: seeds lie farther than this from boundaries (default: 10; voxels where their size is unknown)",
    )
    parser.add_argument(
        "--h", type=float, metavar="NM", help="watershed: and rise so much above the pass to a higher one (default: 0)"
    )
    parser.add_argument(
        "--min-size",
        type=int,
        default=1,
        metavar="VOXELS",
        help="smaller segments are given to those around them by the watershed, or else left out",
    )
    parser.add_argument("--per-section", action="store_true", help="watershed: flood each section for itself")
    parser.add_argument("--keep-boundaries", action="store_true", help="watershed: leave boundaries 0")
    parser.add_argument(
        "--strides", metavar="Z,Y,X", help="mutex: far edges of every n-th voxel alone, which is faster"
    )
    parser.add_argument("--channel", type=int, metavar="K", help="the one that is the boundary map, from 0 on")
    parser.add_argument(
        "--offsets",
        metavar="Z,Y,X;...",
        help="of the affinities, one for each channel, such as --offsets='-1,0,0;0,-1,0;0,0,-1' (default: what the "
        "prediction says of itself)",
    )
    parser.add_argument("--block", metavar="Z,Y,X", help="size of a block (default: as large as the memory allows)")
    parser.add_argument("--halo", metavar="Z,Y,X", help="voxels that a block sees around itself (default: about 32)")
    parser.add_argument("--memory", type=float, default=2.0, metavar="GIB", help="that a block may take (default: 2)")
    parser.add_argument("--resume", action="store_true", help="go on with a segmentation that was killed")
    parser.add_argument("--force", action="store_true", help="replace OUTPUT if it exists, and begin anew")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Segment."""
    try:
        block, halo, strides = (_numbers(getattr(args, name)) for name in ("block", "halo", "strides"))
        offsets = None if args.offsets is None else [_numbers(text) for text in args.offsets.split(";")]
    except ValueError as error:
        warn(f"{error}: three whole numbers with commas are needed, such as 64,256,256")
        return USAGE
    if args.memory <= 0:
        warn(f"--memory {args.memory:g}: more than 0 GiB is needed")
        return USAGE
    from elektronn_tui.data import open_source, segment_volume
    from elektronn_tui.data.output import check_complete

    settings: dict[str, Any] = {
        "threshold": args.threshold,
        "seed_distance": args.seed_distance,
        "h": args.h,
        "per_section": args.per_section or None,
        "keep_boundaries": args.keep_boundaries or None,
        "strides": strides,
    }
    check_complete(args.prediction)
    with BlockProgressShown(args.json) as shown:
        path = segment_volume(
            open_source(args.prediction),
            args.output,
            method=args.method,
            channel=args.channel,
            offsets=offsets,  # type: ignore[arg-type]
            min_size=args.min_size,
            block=block,
            halo=halo,
            memory=round(args.memory * GIB),
            resume=args.resume,
            force=args.force,
            progress=shown.show,
            **{name: value for name, value in settings.items() if value is not None},
        )
    shown.finish(path)
    return DONE


def _numbers(text: str | None) -> Sequence[int] | None:
    if text is None:
        return None
    try:
        z, y, x = (int(n) for n in text.split(","))
    except ValueError:
        raise ValueError(text) from None
    return z, y, x
