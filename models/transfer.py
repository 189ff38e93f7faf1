"""Parameters of one model for another, by name and shape."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from elektronn_tui.errors import ModelError, did_you_mean

from .declared import checked
from .graph import tensors_of
from .storage import read_tensors

if TYPE_CHECKING:
    from .model import Model

__all__ = ["TransferReport", "transfer_params"]


@dataclass
class TransferReport:
    """What a transfer did; prints as a list.

    Attributes
    ----------
    taken : dict of str to str
        Parameters of the target that got new values, with those of the source that they come from, both
        ``<node>.<parameter>``.
    left_out : dict of str to str
        Parameters of the target that kept theirs, with the reason.
    unused : list of str
        Parameters of the source that nobody took.
    """

    taken: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{len(self.taken)} parameters taken, {len(self.left_out)} left out, {len(self.unused)} unused"]
        lines += [f"  {key} from {origin}" for key, origin in self.taken.items() if key != origin]
        lines += [f"  {key} kept: {reason}" for key, reason in self.left_out.items()]
        lines += [f"  {key} of the source is unused" for key in self.unused]
        return "\n".join(lines)


@checked
def transfer_params(
    source: Model | str | os.PathLike[str],
    target: Model,
    rename: Mapping[str, str] | None = None,
    strict: bool = False,
) -> TransferReport:
    """Copy parameters and running statistics from a model or model file into another model.

    Parameters
    ----------
    source : Model or path
        Of a file only the tensors are read: its graph may be of any kind.
    target : Model
        Parameters of the same name and shape get the values; precision and device stay.
    rename : mapping of str to str, optional
        Names of nodes (``"conv"``) or single parameters (``"conv.w"``) of the source, to what they are called in the
        target.
    strict : bool
        Refuse, and change nothing, unless every parameter of the target gets a value and every one of the source is
        used.

    Returns
    -------
    TransferReport

    Raises
    ------
    ModelError
        If `strict` and something is left over, if the file can't be read, or `rename` names what isn't there.

    Examples
    --------
    Of a network with other classes take all but the last layer:

    >>> report = transfer_params("membranes.safetensors", model)  # doctest: +SKIP
    >>> print(report)  # doctest: +SKIP
    8 parameters taken, 2 left out, 2 unused
      conv4.w kept: the source's has the shape (2, 20, 1, 1, 1), not (3, 20, 1, 1, 1)
      ...
    """
    given = read_tensors(source) if isinstance(source, str | os.PathLike) else tensors_of(source)
    own = tensors_of(target)
    names = _renamed(given, rename or {}, own)
    report = TransferReport()
    for key, tensor in own.items():
        origin = names.get(key)
        if origin is None:
            report.left_out[key] = "the source has no such parameter"
        elif given[origin].shape != tensor.shape:
            shapes = f"{tuple(given[origin].shape)}, not {tuple(tensor.shape)}"
            report.left_out[key] = f"the source's has the shape {shapes}"
        else:
            report.taken[key] = origin
    used = set(report.taken.values())
    report.unused = [key for key in given if key not in used]
    if strict and (report.left_out or report.unused):
        raise ModelError(f"Not all parameters fit each other, so none was transferred. {report}")
    with torch.no_grad():
        for key, origin in report.taken.items():
            own[key].copy_(given[origin])
    return report


def _renamed(
    given: Mapping[str, torch.Tensor], rename: Mapping[str, str], own: Mapping[str, torch.Tensor]
) -> dict[str, str]:
    """Return the source's key for each name that its parameters have in the target."""
    nodes = {key.partition(".")[0] for key in given}
    wanted = {*own, *(key.partition(".")[0] for key in own)}
    for old, new in rename.items():
        if old not in nodes and old not in given:
            raise ModelError(f"rename: the source has no {old!r}.{did_you_mean(old, [*nodes, *given])}")
        if not isinstance(new, str) or new not in wanted:
            raise ModelError(f"rename: the target has no {new!r}.{did_you_mean(str(new), wanted)}")
    result: dict[str, str] = {}
    for key in sorted(given, key=lambda key: key.partition(".")[0] in rename or key in rename):
        node, _, parameter = key.partition(".")
        result[rename.get(key, f"{rename.get(node, node)}.{parameter}")] = key
    return result
