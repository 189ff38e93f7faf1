"""What an example of a node is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from elektronn_tui.models import Input, Node

Arrays = Callable[[np.random.Generator, Node], list[Any]]


@dataclass(frozen=True)
class NodeExample:
    """A node on top of a small graph whose first source is a float `Input` named ``raw``.

    Attributes
    ----------
    make : callable
        Returns the node; called under a fixed seed.
    differentiable : bool
        Whether its gradient by ``raw`` and by all parameters is checked against finite differences.
    arrays : callable, optional
        ``(rng, node)`` → one array for each source, in the order of ``node.input_nodes``; by default floats are
        normally distributed and integers are 0 or 1.
    deterministic : bool
        Whether two computations in evaluation mode give the same values.
    given : mapping
        What `load_model` has to be given to load it again, as keywords.
    own_shape : bool
        Whether it has the same shape whatever the sizes of its sources.
    """

    make: Callable[[], Node]
    differentiable: bool = True
    arrays: Arrays | None = None
    deterministic: bool = True
    given: Mapping[str, Any] = field(default_factory=dict)
    own_shape: bool = False

    def tensors(self, node: Node, seed: int = 0) -> list[Any]:
        """Return a tensor for each source, or the object that it takes; floats in double precision."""
        rng = np.random.default_rng(seed)
        if self.arrays is not None:
            arrays = self.arrays(rng, node)
        else:
            arrays = [default_array(rng, source) for source in node.input_nodes]
        return [
            torch.from_numpy(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array
            for array in arrays
        ]

    def values(self, node: Node, seed: int = 0) -> list[Any]:
        """Return the same as arrays."""
        return [x.numpy() if isinstance(x, torch.Tensor) else x for x in self.tensors(node, seed)]


def default_array(rng: np.random.Generator, source: Node) -> np.ndarray:
    """Return normally distributed doubles, or the integers 0 and 1."""
    size = [1 if n is None else n for n in source.shape.shape]
    if getattr(torch, source.dtype).is_floating_point:
        return rng.normal(size=size)
    return rng.integers(0, 2, size)


def image(n_f: int = 2, name: str = "raw") -> Input:
    """Return a source of two images of 6 × 7."""
    return Input((2, n_f, 6, 7), "b,f,y,x", name=name)


def volume(n_f: int = 2, name: str = "raw") -> Input:
    """Return a source of one volume of 3 × 4 × 4."""
    return Input((1, n_f, 3, 4, 4), "b,f,z,y,x", name=name)
