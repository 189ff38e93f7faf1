"""Averages of the weights over steps: what is validated and exported where they are on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

__all__ = ["Averaging"]


class Averaging:
    """A running average of a network's parameters and running statistics.

    ``ema`` is an exponential moving average over all steps, ``swa`` the plain mean of every n-th one. The running
    statistics of normalisation are averaged like weights, not measured anew.

    Parameters
    ----------
    module : nn.Module

    Attributes
    ----------
    mode : {"none", "ema", "swa"}
        Of what was averaged so far.
    count : int
        How many steps went in; 0 where there is no average yet.

    References
    ----------
    Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, 2018 (SWA).
    """

    def __init__(self, module: nn.Module) -> None:
        named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self._live = {name: tensor for name, tensor in named.items() if tensor.is_floating_point()}
        self._averages: list[torch.Tensor] = []
        self.mode = "none"
        self.count = 0

    def reset(self) -> None:
        """Forget the average; it begins anew with the next step that goes in."""
        self._averages, self.mode, self.count = [], "none", 0

    def update(self, step: int, mode: str, *, decay: float, first: int, every: int) -> None:
        """Let the weights after step `step` go in.

        Parameters
        ----------
        step : int
        mode : {"none", "ema", "swa"}
            A change of it begins anew.
        decay : float
            Of ``ema``: how much of the average stays. It is less at first, (1 + n) / (10 + n) after n steps, so that
            the first weights are soon forgotten.
        first, every : int
            Of ``swa``: which steps go in.
        """
        if mode != self.mode:
            self.reset()
            self.mode = mode
        if mode == "none" or (mode == "swa" and (step < first or (step - first) % every)):
            return
        live = [tensor.detach() for tensor in self._live.values()]
        if not self._averages:
            self._averages = [tensor.clone() for tensor in live]
        elif mode == "ema":
            decay = min(decay, (1 + self.count) / (10 + self.count))
            get_ema_multi_avg_fn(decay)(self._averages, live, self.count)
        else:
            get_swa_multi_avg_fn()(self._averages, live, self.count)
        self.count += 1

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in the place of the weights for a while; leave them where there is none."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def adopt(self) -> None:
        """Make the average the weights that training goes on from."""
        with torch.no_grad():
            for tensor, average in zip(self._live.values(), self._averages, strict=False):
                tensor.copy_(average)

    def load(self, mode: str, count: int, read: Callable[[], object]) -> None:
        """Go on from a kept average of `count` steps: `read` loads it into the network, in the place of the weights."""
        self.reset()
        self.mode, self.count = mode, count
        if count:
            self._averages = [tensor.detach().clone() for tensor in self._live.values()]
            with self.applied():
                read()

    def _exchange(self) -> None:
        # Pointers alone: optimiser and gradients belong to the parameters, not to their data.
        for k, tensor in enumerate(self._live.values() if self._averages else ()):
            tensor.data, self._averages[k] = self._averages[k], tensor.data
