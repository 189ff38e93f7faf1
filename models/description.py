"""A model as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .graph import ROLE_LISTS, ROLES

if TYPE_CHECKING:
    from .model import Model

__all__ = ["description_of", "figure"]

WIDTH = 100
LIMITS = {"name": 18, "kind": 15, "output": 28}


def description_of(model: Model) -> str:
    """Return name, roles, all nodes with shape, geometry, parameters and cost, and the totals; 100 columns wide."""
    descriptions = model.describe()
    rows = [("name", "kind", "output", "fov", "stride", "offset", "params", "cost")]
    for d in descriptions:
        sizes = "×".join("?" if n is None else str(n) for n in d.shape) or "1"
        rows.append(
            (
                d.name,
                d.kind,
                f"{sizes} {d.tags.replace(',', '')}",
                _numbers(d.fov),
                _numbers(d.strides),
                _numbers(d.offsets),
                f"{d.params:,}" if d.params else "",
                figure(d.cost) if d.cost else "",
            )
        )
    cost = sum(d.cost for d in descriptions)
    lines = [f"Model {model.name!r}", *_table(rows), ""]
    total = f"{model.param_count:,} trainable parameters, {figure(cost)} Ops"
    shape = model.prediction_node.shape
    voxels = shape.spatial_size * ((shape["b"] if shape.hastag("b") else None) or 1)
    if shape.ndim and voxels:
        needed = sum(node.computational_cost for node in model.prediction_node.all_parents.values())
        total += f"; {figure(needed / voxels)} Ops for each voxel of the prediction"
    lines.append(total)
    for role in ROLES:
        if (node := getattr(model, role)) is not None:
            names = f": {', '.join(node.feature_names)}" if node.feature_names else ""
            lines.append(f"{role:<16}{node.name} {node.shape.text}{names}")
    for role in ROLE_LISTS:
        if nodes := getattr(model, role):
            lines.append(f"{role:<16}{', '.join(node.name for node in nodes)}")
    return "\n".join(line if len(line) <= WIDTH else line[: WIDTH - 1] + "…" for line in lines)


def figure(number: float) -> str:
    """Return a number with a unit of thousands, as ``416.2 G``."""
    for unit in ("", " k", " M", " G", " T"):
        if abs(number) < 1000 or unit == " T":
            break
        number /= 1000
    return f"{number:.0f}" if not unit else f"{number:.1f}{unit}"


def _numbers(values: Sequence[Any]) -> str:
    return ",".join("?" if v == -1 else f"{v:g}" for v in values)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    header = rows[0]
    cut = [
        tuple(
            cell if len(cell) <= (limit := LIMITS.get(head, 12)) else cell[: limit - 1] + "…"
            for head, cell in zip(header, row, strict=True)
        )
        for row in rows
    ]
    widths = [max(len(row[i]) for row in cut) for i in range(len(header))]
    right = {header.index(h) for h in ("params", "cost")}
    lines = []
    for row in cut:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append(" ".join(cells).rstrip())
    lines.insert(1, "─" * max(len(line) for line in lines))
    return lines
