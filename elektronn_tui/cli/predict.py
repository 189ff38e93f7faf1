"""``elektronn predict MODEL|SESSION INPUT OUTPUT``: predict a volume with a model, or beside a running session."""

from __future__ import annotations

import argparse

from . import DONE, USAGE
from .block_progress import BlockProgressShown
from .output import add_json, warn
from .prediction_job import add_session_options, refuse_session_options, run_as_job, running_session


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a model file, a checkpoint's folder, a running session, or a run, RUN@CHECKPOINT",
    )
    parser.add_argument("input", metavar="INPUT", help="volume: FILE:KEY or any other address")
    parser.add_argument(
        "output", metavar="OUTPUT", help="to make: an HDF5 file, FILE.h5:KEY (default key: prediction), or FOLDER.zarr"
    )
    parser.add_argument("--uint8", action="store_true", help="values times 255, in a byte each")
    parser.add_argument("--pad", action="store_true", help="mirror the volume at its borders: an output for each voxel")
    parser.add_argument(
        "--flips",
        default="",
        metavar="AXES",
        help="average over flips along these axes: yx makes 4 runs of one (not for affinities)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="of convolutions (default: bf16 where the hardware has it)",
    )
    parser.add_argument(
        "--memory-format",
        choices=("channels_last", "contiguous"),
        default="channels_last",
        help="of weights and inputs (default: channels_last, the faster one of most networks; elektronn profile tells)",
    )
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GIB",
        help="most that it takes (default: half of what is free)",
    )
    parser.add_argument(
        "--patch", metavar="Z,Y,X", help="input of one run of the network (default: as large as the memory allows)"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument(
        "--engine",
        choices=("auto", "dilated", "mfp", "shifts"),
        default="auto",
        help="of networks with strided outputs: dilation, max-fragment pooling, or a run for each shift (default: the "
        "first that is possible)",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        default=0.25,
        metavar="SHARE",
        help="of tiles, for networks that pad and can't see the whole volume at once (default: 0.25)",
    )
    parser.add_argument(
        "--blend", choices=("gaussian", "constant"), default="gaussian", help="weights of the values of such tiles"
    )
    parser.add_argument(
        "--block-memory",
        type=int,
        default=64,
        metavar="MIB",
        help="about how much a block of several tiles takes on its way to the disk (default: 64)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with a prediction that was killed")
    parser.add_argument("--force", action="store_true", help="replace OUTPUT if it exists, and begin anew")
    add_session_options(parser)
    parser.set_defaults(parser=parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Predict."""
    try:
        patch = None if args.patch is None else tuple(int(n) for n in args.patch.split(","))
    except ValueError:
        warn(f"--patch {args.patch}: whole numbers with commas are needed, such as 32,128,128")
        return USAGE
    if args.block_memory < 1:
        warn(f"--block-memory {args.block_memory}: at least 1 MiB is needed")
        return USAGE
    if args.memory is not None and args.memory <= 0:
        warn(f"--memory {args.memory:g}: more than 0 GiB is needed")
        return USAGE
    session = running_session(args.model)
    if session is not None:
        return run_as_job(session, args)
    return _predict(args, patch)


def _predict(args: argparse.Namespace, patch: tuple[int, ...] | None) -> int:
    import torch

    from elektronn_tui.data import open_source
    from elektronn_tui.data.output import check_output
    from elektronn_tui.models.allocation import keep_freed_memory
    from elektronn_tui.models.volume_prediction import predict_volume
    from elektronn_tui.training.opening import open_model
    from elektronn_tui.training.resources import usable_cores

    refuse_session_options(args)
    check_output(args.output, key="prediction", force=args.force)
    torch.set_num_threads(usable_cores())
    keep_freed_memory()
    model = open_model(args.model, trained=True, weights=args.weights)
    last = args.memory_format == "channels_last"
    model.to(
        "cuda" if torch.cuda.is_available() else "cpu",
        memory_format=torch.channels_last_3d if last else torch.contiguous_format,
    )
    with BlockProgressShown(args.json) as shown:
        path = predict_volume(
            model,
            open_source(args.input),
            args.output,
            as_uint8=args.uint8,
            pad_raw=args.pad,
            patch_shape=patch,
            batch_size=args.batch,
            engine=args.engine,
            overlap=args.overlap,
            blend=args.blend,
            flips=args.flips,
            precision=args.precision,
            memory=None if args.memory is None else round(args.memory * 2**30),
            block_bytes=args.block_memory * 2**20,
            resume=args.resume,
            force=args.force,
            progress=shown.show,
        )
    shown.finish(path)
    return DONE
