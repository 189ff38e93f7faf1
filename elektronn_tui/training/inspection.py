"""What an experiment's data are, before a network is trained on them: what ``elektronn data`` shows."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from elektronn_tui.data import Batch, DataStats, LabelSummary, Patches, ValueSummary, summarise_labels, summarise_values
from elektronn_tui.data.summaries import label_counts, label_summary, value_summary
from elektronn_tui.errors import ExperimentError

from .batch_summary import ArraySummary, BatchSummary
from .batches import Feeder
from .classes import Classes
from .datasets import Volumes
from .experiment import build_model
from .pictures import draw_example, write_picture
from .runner import named
from .supply import Opening, data_controls, open_supply

if TYPE_CHECKING:
    from elektronn_tui.data import ArrayExamples, Pair, Source
    from elektronn_tui.data.sources import Box

    from .arrays import Arrays
    from .experiment import Experiment
    from .supply import Supply

__all__ = ["DataReport", "ExampleReport", "PartReport", "SourceReport", "inspect_data"]

TIMED_EXAMPLES = 8
_MOST_ENTRIES = 2**23  # numbers of an array that are looked at


@dataclass(frozen=True)
class SourceReport:
    """A volume, or an array of examples: what it is."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    channels: int | None = None
    voxel_size: tuple[float, float, float] | None = None
    offset: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class PartReport:
    """A pair of volumes, or the arrays for training or validation.

    Attributes
    ----------
    part
        ``"training"`` or ``"validation"``.
    share
        Of the examples, 0 to 1.
    values, labels, target_values
        Of each channel of raw, and of a target of integers or of floats.
    masked
        Share of the voxels that a mask leaves out; None without one.
    target_offset, region, context
        Of a pair: see `elektronn_tui.data.Pair`.
    positions
        Of an un-warped patch in a pair; entries of an array.
    """

    part: str
    name: str
    share: float
    positions: int
    raw: SourceReport
    values: Sequence[ValueSummary]
    target: SourceReport | None = None
    labels: Sequence[LabelSummary] = ()
    target_values: Sequence[ValueSummary] = ()
    mask: SourceReport | None = None
    masked: float | None = None
    target_offset: tuple[int, int, int] | None = None
    region: Box | None = None
    context: Box | None = None
    weight: float | None = None


@dataclass(frozen=True)
class ExampleReport:
    """One example, as training would make it in its first steps.

    Attributes
    ----------
    number
        Of the example.
    source
        The pair that it is from, or the name of the arrays.
    position
        Raw voxel (z, y, x) of a patch's first voxel, or the number of the entry.
    arrays
        What it holds.
    """

    number: int
    source: str
    position: tuple[int, ...]
    arrays: Sequence[ArraySummary]
    picture: str | None = None


@dataclass(frozen=True)
class DataReport:
    """What an experiment's data are.

    Attributes
    ----------
    experiment
        Its name.
    parts
        Pairs of volumes or arrays, training first.
    network
        Shapes ``patch``, ``target``, ``strides``, ``offsets`` of the network: (z, y, x) for volumes.
    scaling
        ``mean`` and ``std`` of raw values; None: they are fed as they are.
    classes
        How many the network tells apart; None: no classes.
    validation
        Examples in the validation set.
    augmentation
        The data controls at the first step.
    example
        The one that was asked for.
    stats
        What some examples cost here.
    """

    experiment: str
    parts: Sequence[PartReport]
    network: Mapping[str, tuple[int, ...]]
    scaling: Mapping[str, Sequence[float]] | None
    classes: int | None
    validation: int
    augmentation: Mapping[str, Any]
    example: ExampleReport
    stats: DataStats

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        return dataclasses.asdict(self)


def inspect_data(experiment: Experiment, number: int = 0, picture: Path | None = None) -> DataReport:
    """Open an experiment's data as training would, and tell what they are.

    Volumes are read from where they are, box by box, even where training would keep them in memory: large ones are
    sampled.

    Parameters
    ----------
    experiment
        What would be trained.
    number
        Of the example that is made, varied as in the first step.
    picture
        A PNG file to be written of it.

    Raises
    ------
    ExperimentError, DataError
        What training would refuse; or a picture of examples that are no images.
    """
    if number < 0:
        raise ExperimentError(f"example {number}: examples are numbered from 0")
    with named(experiment):
        return _inspected(experiment, number, picture)


def _inspected(experiment: Experiment, number: int, picture: Path | None) -> DataReport:
    model = build_model(experiment)
    data = _from_disk(experiment.data).open()
    feed, logger = Feeder(model, torch.device("cpu")), logging.getLogger(__name__)
    supply = open_supply(data, Opening(experiment, model, feed, contextlib.nullcontext, logger))
    start = data_controls(data, model, experiment)
    for name in start:
        if name in experiment.schedules:
            start[name] = experiment.schedules[name].value(1, start[name])
    settings = dataclasses.replace(supply.augmentation, **start)
    classes = Classes.of(model)
    parts = _pairs(data, supply, classes) if isinstance(data, Volumes) else _arrays(data, supply, classes)
    examples = supply.examples
    example, batch = _example(examples, number, settings)
    if picture is not None:
        _draw(picture, examples, batch)
        example = dataclasses.replace(example, picture=str(picture))
    examples.batch(range(TIMED_EXAMPLES), settings)
    return DataReport(
        experiment=experiment.name,
        parts=parts,
        network=_network(examples, batch),
        scaling=None if examples.scaling is None else examples.scaling.to_dict(),
        classes=classes.n_class if classes else None,
        validation=sum(len(part["raw"]) for part in supply.validation),
        augmentation=start,
        example=example,
        stats=examples.stats(),
    )


def _example(examples: Patches | ArrayExamples, number: int, settings: Any) -> tuple[ExampleReport, Batch]:
    batch: Batch
    if isinstance(examples, Patches):
        made = examples.example(number, settings)
        source, position = examples.pairs[made.pair].name, tuple(made.position)
        arrays = {"raw": made.raw, "target": made.target, "mask": made.mask}
        batch = {name: array for name, array in arrays.items() if array is not None}
    else:
        source, position = examples.name, (examples.index(number),)
        batch = {name: array[0] for name, array in examples.batch([number], settings).items()}
    return ExampleReport(number, source, position, BatchSummary.of(batch).arrays), batch


def _network(examples: Patches | ArrayExamples, batch: Batch) -> dict[str, tuple[int, ...]]:
    if not isinstance(examples, Patches):
        return {name: array.shape for name, array in batch.items()}
    shapes = dataclasses.asdict(examples.geometry)
    return {name.removesuffix("_shape"): shape for name, shape in shapes.items() if name != "at_centre"}


def _from_disk(data: Any) -> Any:
    """Return data that are read box by box: to look at a volume of a terabyte must not load it."""
    return dataclasses.replace(data, in_memory=False) if getattr(data, "in_memory", False) is True else data


def _draw(path: Path, examples: Patches | ArrayExamples, batch: Batch) -> None:
    raw = batch["raw"]
    if raw.ndim not in (3, 4):
        raise ExperimentError(f"{path}: there is nothing to draw; examples are arrays of the shape {raw.shape}")
    geometry = examples.geometry if isinstance(examples, Patches) else None
    write_picture(path, draw_example(raw, batch.get("target"), geometry))


# --- volumes --------------------------------------------------------------------------------------


def _pairs(volumes: Volumes, supply: Supply, classes: Classes | None) -> list[PartReport]:
    reports = []
    for part, pairs in (("training", volumes.train), ("validation", volumes.valid)):
        total = sum(pair.weight for pair in pairs)
        reports += [
            _pair(part, pair, pair.weight / total if total else 0.0, volumes, supply, classes) for pair in pairs
        ]
    return reports


def _pair(part: str, pair: Pair, share: float, volumes: Volumes, supply: Supply, classes: Classes | None) -> PartReport:
    assert isinstance(supply.examples, Patches)
    first, last = pair.placements(supply.examples.geometry)
    labels: Sequence[LabelSummary] = ()
    values: Sequence[ValueSummary] = ()
    if pair.target is not None:
        box = _within(pair.target, pair.region, pair.target_offset)
        if pair.target.dtype.kind == "f":
            values = summarise_values(pair.target, box)
        else:
            n_class = classes.n_class if classes else None
            labels = summarise_labels(pair.target, box, classes=n_class, ignore=volumes.ignore)
    masked = None
    if pair.mask is not None:
        (marks,) = summarise_labels(pair.mask, _within(pair.mask, pair.region, pair.mask_offset), ignore=(0,))
        masked = marks.ignored / max(marks.voxels, 1)
    return PartReport(
        part=part,
        name=pair.name,
        share=share,
        positions=int(np.prod(np.subtract(last, first) + 1, dtype=object)),
        raw=_source(pair.raw),
        values=summarise_values(pair.raw, pair.context),
        target=None if pair.target is None else _source(pair.target),
        labels=labels,
        target_values=values,
        mask=None if pair.mask is None else _source(pair.mask),
        masked=masked,
        target_offset=None if pair.target is None else pair.target_offset,
        region=pair.region,
        context=pair.context,
        weight=pair.weight,
    )


def _source(source: Source) -> SourceReport:
    return SourceReport(source.name, source.shape, str(source.dtype), source.channels, source.voxel_size, source.offset)


def _within(source: Source, region: Box, offset: Sequence[int]) -> Box:
    """Return a region of raw voxels in those of a source that lies `offset` in raw."""
    lo = np.clip(np.subtract(region[0], offset), 0, source.shape).tolist()
    hi = np.clip(np.subtract(region[1], offset), 0, source.shape).tolist()
    return (lo[0], lo[1], lo[2]), (hi[0], hi[1], hi[2])


# --- arrays ---------------------------------------------------------------------------------------


def _arrays(data: Arrays, supply: Supply, classes: Classes | None) -> list[PartReport]:
    reports = []
    for part, raw, target in (
        ("training", data.train, data.train_target),
        ("validation", data.valid, data.valid_target),
    ):
        if raw is None:
            continue
        labels: list[LabelSummary] = []
        values: list[ValueSummary] = []
        if target is not None and target.dtype.kind == "f":
            values = [_values(target)]
        elif target is not None:
            labels = [label_summary(label_counts(target), 1.0, classes.n_class if classes else None)]
        reports.append(
            PartReport(
                part=part,
                name=data.name,
                share=1.0,
                positions=len(raw),
                raw=SourceReport(f"{data.name}: inputs", raw.shape, str(raw.dtype)),
                values=[_values(raw)],
                target=None if target is None else SourceReport("targets", target.shape, str(target.dtype)),
                labels=labels,
                target_values=values,
            )
        )
    return reports


def _values(array: npt.NDArray[Any]) -> ValueSummary:
    step = -(-array.size // _MOST_ENTRIES)
    return value_summary(array[::step], len(array[::step]) / max(len(array), 1))
