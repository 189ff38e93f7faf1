"""Random variables inside of a network, and the prior that goes with them in a variational autoencoder."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .loss import full_precision
from .node import Node, misfit
from .shape import TaggedShape

__all__ = ["GaussianAEVBPrior", "GaussianRV"]


class GaussianOperation(nn.Module):
    """Draw by shifting and scaling standard normal numbers, so that gradients reach mean and deviation."""

    def __init__(self, n_samples: int, axis: int) -> None:
        super().__init__()
        self.n_samples, self.axis = n_samples, axis

    def forward(self, mu: torch.Tensor, log_sig: torch.Tensor) -> torch.Tensor:
        """Map mean and logarithm of the deviation (b, ...) to samples (b, ...) or (b, s, ...)."""
        sigma = log_sig.exp()
        if self.n_samples:
            mu, sigma = mu.unsqueeze(self.axis), sigma.unsqueeze(self.axis)
        size = list(mu.shape)
        if self.n_samples:
            size[self.axis] = self.n_samples
        return mu + sigma * torch.randn(size, dtype=mu.dtype, device=mu.device)


class GaussianRV(Node):
    """A sample of a normal distribution whose mean and standard deviation come from the network.

    The value is ``mu + exp(log_sig) * noise`` with standard normal noise (Kingma and Welling, "Auto-encoding
    variational Bayes", 2014), differentiable by both. For noise on a layer give a `ValueNode` as `log_sig`.

    Parameters
    ----------
    mu, log_sig : Node
        Mean, and natural logarithm of the standard deviation, of equal shapes.
    n_samples : int
        0: one sample, of the shape of `mu`. k > 0: k of them, on a new axis s to the right of b.
    name : str
    print_repr : bool

    Notes
    -----
    It draws in training *and* in evaluation, for it stands for a random variable and not for its mean: to predict
    from the mean, build the rest of the network on `mu`. The numbers come from torch's default generator of the
    device; ``torch.manual_seed`` repeats them.

    Raises
    ------
    ShapeError
        If the shapes differ, or there is no axis b beside which samples could lie.
    ModelError
        If `n_samples` is no whole number from 0 on.
    """

    def __init__(
        self, mu: Node, log_sig: Node, n_samples: int = 0, name: str = "state", print_repr: bool = False
    ) -> None:
        super().__init__((mu, log_sig), name, print_repr)
        self.n_samples = _sample_number(self, n_samples)
        axis = mu.shape.tags.index("b") + 1 if mu.shape.hastag("b") else 0
        self._build(GaussianOperation(self.n_samples, axis))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of mu, with an axis s if several samples are drawn."""
        return _with_samples(self, parents, self.n_samples)

    def make_priorlayer(self) -> GaussianAEVBPrior:
        """Return the node of the divergence from the standard normal distribution, called ``<name>_prior``."""
        mu, log_sig = self.parents
        return GaussianAEVBPrior(mu, log_sig, self.n_samples, name=f"{self.name}_prior")

    @property
    def computational_cost(self) -> int:
        """One multiplication a sample."""
        return self.parents[0].shape.stripnone_prod * max(1, self.n_samples)

    @property
    def detail(self) -> str:
        """The number of samples, if there are several."""
        return f"{self.n_samples} samples" if self.n_samples else ""


class PriorOperation(nn.Module):
    """Divergence of a normal distribution from the standard one, for each entry."""

    def __init__(self, n_samples: int, axis: int) -> None:
        super().__init__()
        self.n_samples, self.axis = n_samples, axis

    def forward(self, mu: torch.Tensor, log_sig: torch.Tensor) -> torch.Tensor:
        """Map mean and logarithm of the deviation to divergences, in single precision or better."""
        mu, log_sig = full_precision(mu), full_precision(log_sig)
        value = 0.5 * (mu.square() + (2 * log_sig).exp() - 1 - 2 * log_sig)
        if self.n_samples:
            size = [-1] * (value.ndim + 1)
            size[self.axis] = self.n_samples
            value = value.unsqueeze(self.axis).expand(size)
        return value


class GaussianAEVBPrior(Node):
    """Kullback-Leibler divergence of ``N(mu, exp(log_sig)²)`` from N(0, 1), in nats, for each entry.

    It is ``(mu² + sigma² - 1 - 2 log_sig) / 2``: the prior's term in the loss of a variational autoencoder.

    Parameters
    ----------
    mu, log_sig : Node
        Of equal shapes.
    n_samples : int
        As of the `GaussianRV`: for k > 0 the values are repeated k times on an axis s to the right of b, so that
        they have as many entries as what is computed from the samples.
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If the shapes differ, or there is no axis b.
    ModelError
        If `n_samples` is no whole number from 0 on.
    """

    def __init__(
        self, mu: Node, log_sig: Node, n_samples: int = 0, name: str = "prior", print_repr: bool = False
    ) -> None:
        super().__init__((mu, log_sig), name, print_repr)
        self.n_samples = _sample_number(self, n_samples)
        axis = mu.shape.tags.index("b") + 1 if mu.shape.hastag("b") else 0
        self._build(PriorOperation(self.n_samples, axis))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of mu, with an axis s if several samples are drawn."""
        return _with_samples(self, parents, self.n_samples)


def _sample_number(node: Node, n_samples: int) -> int:
    if isinstance(n_samples, bool) or not isinstance(n_samples, int | np.integer) or n_samples < 0:
        raise ModelError(f"{node.title}: n_samples must be a whole number from 0 on, not {n_samples!r}.")
    return int(n_samples)


def _with_samples(node: Node, parents: tuple[TaggedShape, ...], n_samples: int) -> TaggedShape:
    mu, log_sig = parents
    if mu.tags != log_sig.tags:
        raise misfit(node, f"mu {mu.text} and log_sig {log_sig.text} have unlike axes.")
    for tag, n, m in zip(mu.tags, mu.shape, log_sig.shape, strict=True):
        if n != m and None not in (n, m):
            raise misfit(node, f"mu {mu.text} and log_sig {log_sig.text} differ on axis {tag}: {n} and {m}.")
    if not n_samples:
        return mu
    if not mu.hastag("b") or mu.hastag("s"):
        raise misfit(node, f"n_samples = {n_samples} needs an axis b and no axis s yet, but mu has {mu.text}.")
    return mu.addaxis("b", n_samples, "s")
