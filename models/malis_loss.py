"""The MALIS loss: affinities are judged by the segmentation that follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.data.malis import malis_weights
from elektronn_tui.errors import ModelError

from .feeding import to_numpy
from .loss import EPS, check_target, check_weights, full_precision, per_position
from .nll import ClassWeights, add_class_weights
from .node import Node, misfit
from .shape import TaggedShape
from .softmax import class_groups

__all__ = ["MalisNLL"]


class MalisOperation(nn.Module):
    """Log likelihood of every edge, weighted by the pairs of voxels that hang on it."""

    def __init__(self, nhood: npt.NDArray[np.int64] | None, unrestrict_neg: bool, class_weights: ClassWeights) -> None:
        super().__init__()
        self.nhood, self.unrestrict_neg, self.class_weights = nhood, unrestrict_neg, class_weights
        self.scores: dict[str, torch.Tensor] = {}

    def forward(
        self, pred: torch.Tensor, aff_gt: torch.Tensor, seg_gt: torch.Tensor, *extra: torch.Tensor
    ) -> torch.Tensor:
        """Map probabilities (b, 2 E, ...), affinities (b, E, ...) and ids (b, 1, ...) to losses (b, 1, ...)."""
        given = list(extra)
        nhood = self.nhood if self.nhood is not None else to_numpy(given.pop(0)).astype(np.int64)
        pred = full_precision(pred)
        disconnected, connected = pred.unflatten(1, (len(nhood), 2)).unbind(2)
        pos, neg = self._counts(connected, aff_gt, seg_gt, nhood)
        weights = self.class_weights(pred)
        loss = -(pos * torch.log(connected + EPS) + neg * torch.log(disconnected + EPS))
        if weights is not None:
            loss = loss * weights.reshape(-1, *(1,) * (pred.ndim - 2))
        loss = loss.sum(1, keepdim=True)
        if given:
            loss = loss * per_position(given[0], pred)
        total = (pos + neg).flatten(1).sum(1)
        self._measure(connected.detach(), pos, neg)
        size = loss[0].numel()
        return loss * (size / (total + EPS)).reshape(-1, *(1,) * (loss.ndim - 1))

    def _counts(
        self, connected: torch.Tensor, aff_gt: torch.Tensor, seg_gt: torch.Tensor, nhood: npt.NDArray[np.int64]
    ) -> list[torch.Tensor]:
        """Return both counts (b, E, ...): constants for the gradient, computed on the CPU."""
        if nhood.shape[1] == 2:
            nhood = np.insert(nhood, 0, 0, axis=1)
        flat = connected.ndim == 4
        counts: tuple[list[Any], list[Any]] = ([], [])
        for p, t, ids in zip(to_numpy(connected), to_numpy(aff_gt), to_numpy(seg_gt)[:, 0], strict=True):
            if flat:
                p, t, ids = p[:, None], t[:, None], ids[None]
            ids = ids if ids.dtype.kind in "iu" else ids.astype(np.int64)
            for kind, values in zip(counts, malis_weights(p, t, ids, nhood, self.unrestrict_neg), strict=True):
                kind.append(values[:, 0] if flat else values)
        return [
            torch.from_numpy(np.stack(kind).astype(np.float64)).to(connected.device, connected.dtype) for kind in counts
        ]

    @torch.no_grad()
    def _measure(self, connected: torch.Tensor, pos: torch.Tensor, neg: torch.Tensor) -> None:
        splits = torch.where(connected < 0.5, pos, 0).sum()
        merges = torch.where(connected > 0.5, neg, 0).sum()
        n_pos, n_neg = pos.sum(), neg.sum()
        self.scores = {
            "false_splits": splits,
            "false_merges": merges,
            "rand_index": (splits + merges) / (n_pos + n_neg + EPS),
            "pos_count": n_pos,
            "neg_count": n_neg,
        }


class MalisNLL(Node):
    """Log likelihood of affinities, each weighted by how many pairs of voxels it joins or parts (Turaga et al., 2009).

    ``-(pos w e log(p_connected + EPS) + neg w e log(p_disconnected + EPS))``, summed over the edges of a position and
    divided by the number of all pairs of its example, so that the mean is the mean over pairs. The counts pos and neg
    are those of `elektronn_tui.data.malis.malis_weights`, constants for the gradient; they are computed on the CPU in
    every forward pass.

    Parameters
    ----------
    pred : Node
        A `Softmax` with ``n_class=2`` and one group for each edge, (b, 2 E, z, y, x) or (b, 2 E, y, x): for edge 0
        disconnected, connected, then for edge 1.
    aff_gt : Node
        True affinities (b, E, ...), 0 or 1.
    seg_gt : Node
        Segment ids (b, 1, ...), 0 is no segment.
    nhood : array_like of int or Node, (E, 3) or for 2D (E, 2)
        Offsets of the edges.
    unrestrict_neg : bool
        Whether the negative pairs hang on the prediction alone, or on the graph with all edges inside of objects set
        to 1.
    class_weights : sequence of float, optional
        One for each edge; live, as ``node.class_weights``.
    example_weights : Node, optional
        (b, ...) without the f axis, or with one of size 1.
    name : str
    print_repr : bool

    Attributes
    ----------
    scores : dict of str to float
        Of the last forward pass: ``false_splits`` (positive pairs on edges below 0.5), ``false_merges`` (negative pairs
        on edges above 0.5), ``rand_index`` (their share of all pairs: an error, 0 is best), ``pos_count`` and
        ``neg_count`` (numbers of pairs). Empty before the first one. Each is also an attribute of the node.

    Raises
    ------
    ModelError
        If `pred` is no Softmax of two classes for each edge, or an argument is no good.
    ShapeError
        If targets or weights don't fit.
    """

    operation: MalisOperation

    def __init__(
        self,
        pred: Node,
        aff_gt: Node,
        seg_gt: Node,
        nhood: Node | npt.ArrayLike,
        unrestrict_neg: bool = True,
        class_weights: npt.ArrayLike | None = None,
        example_weights: Node | None = None,
        name: str = "nll",
        print_repr: bool = False,
    ) -> None:
        extra = [node for node in (nhood, example_weights) if isinstance(node, Node)]
        super().__init__((pred, aff_gt, seg_gt, *extra), name, print_repr)
        if (groups := class_groups(pred)) is None or groups[0] != 2:
            raise ModelError(f"{self.title} needs a Softmax with n_class=2 for each edge, not {pred.title}.")
        shape = pred.shape
        if shape.tags[:2] != ("b", "f") or shape.ndim not in (2, 3) or len(shape) != 2 + shape.ndim:
            raise misfit(self, f"the prediction must have the axes b, f and two or three of space, not {shape.text}.")
        self.n_edges = groups[1]
        self._weighted = example_weights is not None
        offsets = None
        if isinstance(nhood, Node):
            sizes: tuple[int | None, ...] = nhood.shape.shape
        else:
            try:
                offsets = np.asarray(nhood)
            except ValueError:
                raise ModelError(
                    f"{self.title}: nhood must be a list of offsets of equal length, not {nhood!r}."
                ) from None
            sizes = offsets.shape
            if offsets.dtype.kind not in "iu":
                raise ModelError(f"{self.title}: nhood must be whole offsets, not {offsets.dtype}.")
            self.arguments["nhood"] = offsets.tolist()
            offsets = offsets.astype(np.int64)
        if len(sizes) != 2 or sizes[0] != self.n_edges or sizes[1] not in {3, shape.ndim}:
            raise misfit(self, f"nhood must be ({self.n_edges}, {shape.ndim}), one offset for each edge, not {sizes}.")
        weights = add_class_weights(self, class_weights, self.n_edges)
        self._build(MalisOperation(offsets, bool(unrestrict_neg), weights))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of the prediction with one feature."""
        pred, aff_gt, seg_gt = parents[:3]
        check_target(self, pred, aff_gt, self.n_edges)
        check_target(self, pred, seg_gt, 1)
        if self._weighted:
            check_weights(self, parents[-1], pred)
        return pred.updateshape("f", 1)

    @property
    def scores(self) -> dict[str, float]:
        """Measures of the last forward pass."""
        return {name: float(value) for name, value in self.operation.scores.items()}

    def __getattr__(self, name: str) -> Any:
        operation = self.__dict__.get("operation")
        if operation is not None and name in operation.scores:
            return float(operation.scores[name])
        return super().__getattr__(name)
