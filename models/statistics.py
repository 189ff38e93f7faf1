"""Figures of many tensors at once: parameters, gradients, activations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

__all__ = ["Table"]


class Table:
    """Mean, standard deviation and median of absolute values by name; prints as a table.

    Parameters
    ----------
    rows : iterable of (str, Tensor or None)
        Those without a tensor are left out.

    Examples
    --------
    >>> Table([("w", torch.tensor([1.0, -3.0]))])["w"]["median_abs"]
    1.0
    """

    def __init__(self, rows: Iterable[tuple[str, torch.Tensor | None]]) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        for name, tensor in rows:
            if tensor is None or not tensor.numel():
                continue
            values = tensor.detach().float()
            self.rows[name] = {
                "shape": tuple(values.shape),
                "mean": float(values.mean()),
                "std": float(values.std(unbiased=False)),
                "median_abs": float(values.abs().median()),
            }

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        width = max((len(name) for name in self.rows), default=4)
        lines = [f"{'name':<{width}}  {'shape':<22}{'mean':>12}{'std':>12}{'median |x|':>12}"]
        for name, row in self.rows.items():
            shape = "×".join(map(str, row["shape"])) or "1"
            lines.append(
                f"{name:<{width}}  {shape:<22}{row['mean']:>12.4g}{row['std']:>12.4g}{row['median_abs']:>12.4g}"
            )
        return "\n".join(lines)
