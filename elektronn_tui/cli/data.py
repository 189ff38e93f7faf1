"""``elektronn data EXPERIMENT``: show what an experiment's data are, and an example as training would make it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import DONE, USAGE
from .output import add_json, print_json, print_line, print_table, warn

if TYPE_CHECKING:
    from elektronn_tui.data import LabelSummary, ValueSummary
    from elektronn_tui.training.inspection import DataReport, PartReport, SourceReport

BARS = " ▁▂▃▄▅▆▇█"
MOST_CHANNELS = 8


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from .train import add_settings

    parser.add_argument("experiment", metavar="EXPERIMENT", help="a file, or a name of the zoo (elektronn new)")
    add_settings(parser)
    parser.add_argument("--example", type=int, default=0, metavar="N", help="which example is made (default: 0)")
    parser.add_argument("-o", dest="picture", type=Path, metavar="FILE.png", help="draw this example")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Open the data and tell what they are."""
    if args.picture is not None and args.picture.suffix.lower() != ".png":
        warn(f"-o {args.picture}: the name of a picture ends in .png")
        return USAGE
    from elektronn_tui.training.experiment import load_experiment
    from elektronn_tui.training.inspection import inspect_data

    report = inspect_data(load_experiment(args.experiment, args.settings), args.example, args.picture)
    if args.json:
        print_json(report.to_dict())
    else:
        _print(report)
    return DONE


def _print(report: DataReport) -> None:
    for part in report.parts:
        print_line(f"{part.part}: {part.name}")
        print_table([("  " + what, text) for what, text in _part(part)])
        print_line()
    print_table(list(_rest(report)))


def _part(part: PartReport) -> Iterator[tuple[str, str]]:
    yield "raw", _source(part.raw)
    yield from _values(part.values)
    if part.target is not None:
        at = "" if part.target_offset is None else f", its voxel 0 on raw {part.target_offset}"
        yield "target", _source(part.target) + at
    yield from _labels(part.labels)
    yield from _values(part.target_values, "ignored")
    if part.mask is not None:
        yield "mask", f"{_source(part.mask)}, leaves out {_percent(part.masked or 0)}"
    if part.region is not None and part.context is not None:
        yield (
            "used",
            f"targets from {part.region[0]} to {part.region[1]}, raw from {part.context[0]} to {part.context[1]}",
        )
        yield (
            "patches",
            f"{part.positions} positions, {_percent(part.share)} of the examples (weight {part.weight:.6g})",
        )
    else:
        yield "entries", str(part.positions)


def _rest(report: DataReport) -> Iterator[tuple[str, str]]:
    shapes = "; ".join(f"{name} {'×'.join(map(str, shape)) or '1'}" for name, shape in report.network.items())
    yield "network", shapes + (f"; {report.classes} classes" if report.classes else "")
    if report.scaling is None:
        yield "scaling", "none"
    else:
        mean, std = (", ".join(f"{value:.4g}" for value in report.scaling[key]) for key in ("mean", "std"))
        yield "scaling", f"(raw - {mean}) / {std}"
    yield "varied", ", ".join(f"{name} {value}" for name, value in report.augmentation.items() if value) or "not at all"
    yield "validation", f"{report.validation} examples"
    example = report.example
    position = ", ".join(map(str, example.position))
    yield f"example {example.number}", f"of {example.source} at ({position})"
    from elektronn_tui.training.batch_summary import BatchSummary

    for line in repr(BatchSummary(example.arrays)).splitlines():
        yield "", line
    if example.picture:
        yield "picture", example.picture
    yield "cost", report.stats.summary


def _source(source: SourceReport) -> str:
    shape = "×".join(map(str, source.shape))
    text = f"{source.name}  {f'{source.channels} × ' if source.channels else ''}{shape} {source.dtype}"
    if source.voxel_size:
        text += f", voxels of {_numbers(source.voxel_size, '×')} nm"
    if source.offset:
        text += f", at {_numbers(source.offset, ', ')} nm"
    return text


def _values(channels: Sequence[ValueSummary], missing: str = "NaN or infinite") -> Iterator[tuple[str, str]]:
    for number, values in enumerate(channels[:MOST_CHANNELS]):
        yield (
            _channel("values", number, channels),
            (f"mean {values.mean:.4g}, std {values.std:.4g}; {values.missing or 'none'} {missing}{_seen(values.seen)}"),
        )
        if not math.isnan(values.mean):
            least, *middle, most = values.percentiles
            shown = zip((1, 5, 25, 50, 75, 95, 99), middle, strict=True)
            yield "", f"{least:.4g} to {most:.4g}; " + ", ".join(f"{p} %: {value:.4g}" for p, value in shown)
            yield "", f"{values.bins[0]:.4g} {_bars(values.histogram)} {values.bins[1]:.4g}"
    yield from _more(channels)


def _labels(channels: Sequence[LabelSummary]) -> Iterator[tuple[str, str]]:
    for number, labels in enumerate(channels[:MOST_CHANNELS]):
        counted = [
            f"{label}: {f'{count} ({_percent(labels.share(label))})' if count else 'none'}"
            for label, count in labels.counts.items()
        ]
        more = labels.distinct - sum(1 for count in labels.counts.values() if count)
        counted += [f"and {more} labels more"] if more else []
        if labels.ignored:
            counted.append(f"ignored: {labels.ignored} ({_percent(labels.ignored / labels.voxels)} of all)")
        yield _channel("labels", number, channels), ", ".join(counted) + _seen(labels.seen)
    yield from _more(channels)


def _channel(what: str, number: int, channels: Sequence[Any]) -> str:
    return what if len(channels) == 1 else f"{what} {number}"


def _more(channels: Sequence[Any]) -> Iterator[tuple[str, str]]:
    if len(channels) > MOST_CHANNELS:
        yield "", f"and {len(channels) - MOST_CHANNELS} channels more"


def _seen(share: float) -> str:
    return "" if share == 1 else f" (of a sample of {_percent(share)})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _bars(histogram: Sequence[int]) -> str:
    most = max(*histogram, 1)
    # Any voxel at all is seen.
    return "".join(BARS[-(-count * (len(BARS) - 1) // most)] for count in histogram)


def _numbers(values: Iterable[float], between: str) -> str:
    return between.join(f"{value:g}" for value in values)
