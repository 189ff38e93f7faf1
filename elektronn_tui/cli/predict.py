"""``elektronn predict MODEL|SESSION INPUT OUTPUT``: predict a volume with a model file, or beside a running session."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from elektronn_tui.errors import DataError

from . import DONE
from .output import add_json, format_seconds, print_json_line, print_line
from .prediction_job import add_session_options, refuse_session_options, run_as_job, running_session

if TYPE_CHECKING:
    import numpy as np

    from elektronn_tui.data.sources import Source


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", metavar="MODEL", help="a model file, or a running session")
    parser.add_argument("input", metavar="INPUT", help="volume, FILE:KEY")
    parser.add_argument("output", metavar="OUTPUT", help="HDF5 file to make, FILE:KEY (default key: prediction)")
    parser.add_argument("--uint8", action="store_true", help="values times 255, in a byte each")
    parser.add_argument("--pad", action="store_true", help="mirror the volume at its borders: an output for each voxel")
    parser.add_argument("--force", action="store_true", help="replace OUTPUT if it exists")
    add_session_options(parser)
    parser.set_defaults(parser=parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Predict."""
    session = running_session(args.model)
    if session is not None:
        return run_as_job(session, args)
    return _predict(args)


def _predict(args: argparse.Namespace) -> int:
    import torch

    from elektronn_tui.data.sources import open_source, split_address
    from elektronn_tui.models import load_model
    from elektronn_tui.training.resources import usable_cores

    refuse_session_options(args)
    begin = time.monotonic()
    path, key = split_address(args.output)
    if Path(path).exists() and not args.force:
        raise DataError(f"{path} exists already; give another OUTPUT, or --force to replace it")
    torch.set_num_threads(usable_cores())
    model = load_model(args.model)
    source = open_source(args.input)
    prediction = model.predict_dense(source.read((0, 0, 0), source.shape), args.uint8, args.pad)
    offsets = [0 if args.pad else int(offset) for offset in model.prediction_node.shape.offsets]
    _write(Path(path), key or "prediction", prediction, source, [0] * (3 - len(offsets)) + offsets, model.extra)
    seconds = time.monotonic() - begin
    if args.json:
        print_json_line({"event": "done", "progress": 1.0, "output": str(Path(path).absolute()), "seconds": seconds})
    else:
        print_line(f"{path}: {prediction.shape} {prediction.dtype} in {format_seconds(seconds)}")
    return DONE


def _write(
    path: Path, key: str, prediction: np.ndarray, source: Source, offsets: list[int], extra: Mapping[str, str]
) -> None:
    """Write a new file with a dataset (f, z, y, x), and where it lies; the file is there only when it is complete."""
    import h5py

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with h5py.File(temporary, "w") as file:
            dataset = file.create_dataset(key, data=prediction)
            dataset.attrs["offset_voxels_zyx"] = offsets
            if source.voxel_size is not None:
                dataset.attrs["voxel_size_nm_zyx"] = source.voxel_size
                begin = source.offset or (0.0, 0.0, 0.0)
                dataset.attrs["offset_nm_zyx"] = [
                    place + offset * size for place, offset, size in zip(begin, offsets, source.voxel_size, strict=True)
                ]
            for name, text in extra.items():
                dataset.attrs[f"model_{name}"] = text
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
