"""What a drawing of a network tells, before it is drawn in any way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .description import figure
from .graph import ROLES
from .scan import ScanN

if TYPE_CHECKING:
    from .model import Model
    from .node import NodeDescription

__all__ = ["Facts", "Family", "Feedback", "NodeFacts", "facts_of"]

Family = Literal["source", "convolution", "pooling", "upsampling", "dense", "merge", "recurrent", "loss", "other"]

FAMILIES: tuple[tuple[Family, tuple[str, ...]], ...] = (
    ("upsampling", ("UpConv", "FragmentsToDense")),
    ("convolution", ("Conv",)),
    ("pooling", ("Pool",)),
    ("recurrent", ("GRU", "LSTM", "Scan", "InitialState")),
    ("loss", ("Loss", "NLL", "Error", "Distance", "Malis", "Prior", "Dice", "Tversky", "Lovasz", "Focal")),
    ("dense", ("Perceptron", "Dot")),
    ("merge", ("Concat", "Add", "Merge")),
)
"""By pieces of class names; the first that fits counts."""


@dataclass(frozen=True)
class NodeFacts:
    """A node as it is drawn.

    Attributes
    ----------
    name, kind, role : str
        The role is empty for most.
    family : str
        Which form and colour it gets.
    parents : tuple of str
    title : str
    shape : str
        As ``20×23×90×90``, without the batch where its size is open.
    lines : tuple of str
        What it does, its shape, its geometry and what it costs.
    share : float
        Of the multiplications of the network.
    description : NodeDescription
    """

    name: str
    kind: str
    role: str
    family: Family
    parents: tuple[str, ...]
    title: str
    shape: str
    lines: tuple[str, ...]
    share: float
    description: NodeDescription


@dataclass(frozen=True)
class Feedback:
    """A value that replaces another one in the next step of a recurrent part.

    Attributes
    ----------
    new, old : str
        The node whose value comes next, and the one that it takes the place of.
    label : str
        How often.
    """

    new: str
    old: str
    label: str


@dataclass(frozen=True)
class Facts:
    """A network as it is drawn: its nodes, parents first, totals in a few words each, and what is fed back in time."""

    name: str
    nodes: tuple[NodeFacts, ...]
    totals: tuple[str, ...]
    feedback: tuple[Feedback, ...] = ()


def facts_of(model: Model, name: str | None = None) -> Facts:
    """Return what there is to draw of a model, under its own name or another one."""
    roles = {getattr(model, role).name: role.removesuffix("_node") for role in reversed(ROLES) if getattr(model, role)}
    descriptions = model.describe()
    total = sum(d.cost for d in descriptions) or 1
    nodes = tuple(_node(d, roles.get(d.name, ""), d.cost / total) for d in descriptions)
    prediction = model.prediction_node
    totals = [f"{model.param_count:,} trainable parameters".replace(",", " "), f"{figure(total)} multiplications"]
    voxels = prediction.shape.spatial_size if prediction.shape.ndim else 0
    if voxels:
        cost = prediction.all_computational_cost / (voxels * (prediction.shape["b"] or 1))
        totals.append(f"{figure(cost)} for each output voxel")
        raw = "×".join(str(n or "?") for n in model.input_node.shape.spatial_shape)
        totals.append(f"{raw} → {'×'.join(str(n or '?') for n in prediction.shape.spatial_shape)} voxels")
        if min(prediction.shape.fov, default=-1) > 0:
            totals.append(f"field of view {_numbers(prediction.shape.fov)}")
        if max(prediction.shape.strides) > 1:
            totals.append(f"strides {_numbers(prediction.shape.strides)}")
    feedback = (
        Feedback(new.name, old.name, f"{scan.n_steps or 'n'} × replaces {old.name}")
        for scan in model.nodes.values()
        if isinstance(scan, ScanN)
        for old, new in zip(scan.in_memory, scan.out_memory, strict=True)
    )
    return Facts(name or model.name, nodes, tuple(totals), tuple(feedback))


def _node(d: NodeDescription, role: str, share: float) -> NodeFacts:
    shape = _shape(d)
    geometry = []
    if d.fov and min(d.fov) > 0:
        geometry.append(f"fov {_numbers(d.fov)}")
    if d.strides and set(d.strides) != {1}:
        geometry.append(f"stride {_numbers(d.strides)}")
    figures = []
    if d.params:
        figures.append(f"{figure(d.params)} params")
    if d.cost:
        figures.append(f"{100 * share:.2g} % of cost" if share >= 0.001 else "<0.1 % of cost")
    lines = (d.detail, f"{shape}  {d.tags.replace(',', ' ')}", " · ".join(geometry), " · ".join(figures))
    title = d.name if d.name == d.kind.lower() else f"{d.kind} · {d.name}"
    return NodeFacts(
        d.name, d.kind, role, _family(d), tuple(d.parents), title, shape, tuple(filter(None, lines)), share, d
    )


def _shape(d: NodeDescription) -> str:
    tags = d.tags.split(",")
    sizes = [n for tag, n in zip(tags, d.shape, strict=False) if not (tag == "b" and n is None)]
    return "×".join("?" if n is None else str(n) for n in sizes) or "1"


def _family(d: NodeDescription) -> Family:
    if not d.parents and d.kind.startswith(("Input", "Generic")):
        return "source"
    return next((family for family, pieces in FAMILIES if any(piece in d.kind for piece in pieces)), "other")


def _numbers(values: Sequence[Any]) -> str:
    return ",".join(f"{value:g}" for value in values)
