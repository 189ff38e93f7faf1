"""``elektronn score SEGMENTATION TRUTH``: how well a segmentation agrees with the true one, object by object."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from elektronn_tui.errors import DataError

from . import DONE, USAGE
from .output import add_json, print_json, print_line, print_table, warn

if TYPE_CHECKING:
    from elektronn_tui.data import Comparison

COLUMNS = ("id", "voxels", "iou", "best", "pieces", "merged_with")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("segmentation", metavar="SEGMENTATION", help="volume of ids: FILE:KEY or any other address")
    parser.add_argument("truth", metavar="TRUTH", help="volume of true ids; 0 is unlabelled and doesn't count")
    parser.add_argument(
        "--offset",
        metavar="Z,Y,X",
        help="voxel of TRUTH on which SEGMENTATION begins (default: by the offsets in the files)",
    )
    parser.add_argument("--ignore", metavar="ID,...", default="", help="more true ids that don't count")
    parser.add_argument("--objects", type=int, default=10, metavar="N", help="worst objects to list (default: 10)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all objects as a table")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compare."""
    try:
        ignore = [int(n) for n in args.ignore.split(",") if n]
        offset = None if args.offset is None else [int(n) for n in args.offset.split(",")]
    except ValueError:
        warn("--offset and --ignore take whole numbers with commas, such as 0,20,20")
        return USAGE
    if offset is not None and len(offset) != 3:
        warn(f"--offset {args.offset}: three numbers are needed, z,y,x")
        return USAGE
    if args.objects < 0:
        warn(f"--objects {args.objects}: a number from 0 on is needed")
        return USAGE
    from elektronn_tui.data import compare_segmentations, open_source

    found = compare_segmentations(open_source(args.segmentation), open_source(args.truth), offset=offset, ignore=ignore)
    if args.csv is not None:
        _write(args.csv, found)
    if args.json:
        shown = [asdict(one) for one in found.objects]
        box = {"lo": found.lo, "hi": found.hi}
        print_json({"scores": asdict(found.scores) | {"voi": found.scores.voi}, "box": box, "objects": shown})
    else:
        _print(found, args.objects)
    return DONE


def _print(found: Comparison, most: int) -> None:
    scores = found.scores
    print_table(
        [
            ("VOI split", f"{scores.voi_split:.4f} bits"),
            ("VOI merge", f"{scores.voi_merge:.4f} bits"),
            ("adapted Rand error", f"{scores.adapted_rand_error:.4f}"),
            ("  precision, recall", f"{scores.precision:.4f}, {scores.recall:.4f}"),
            ("Rand index", f"{scores.rand_index:.6f}"),
            ("compared", f"{scores.voxels} labelled voxels of the truth from {found.lo} to {found.hi}"),
            ("objects", str(len(found.objects))),
        ]
    )
    if most and found.objects:
        print_line()
        rows = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in asdict(o).values()] for o in found.objects]
        print_table(rows[:most], ("object", "voxels", "IoU", "best segment", "pieces", "merged with"))
        if len(rows) > most:
            print_line(f"and {len(rows) - most} more; --csv FILE has all")


def _write(path: Path, found: Comparison) -> None:
    lines = [",".join(COLUMNS), *(",".join(str(value) for value in asdict(one).values()) for one in found.objects)]
    try:
        path.write_text("\n".join(lines) + "\n")
    except OSError as error:
        raise DataError(f"{path} can't be written: {error.strerror or error}.") from error
