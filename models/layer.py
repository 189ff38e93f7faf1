"""What all layers with weights share: batch normalisation, bias, activation and dropout after a linear map."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from elektronn_tui.errors import ModelError

from .activations import get_activation, maxout_factor
from .initialisation import ParameterLike, initbias, make_parameter, register_tensor
from .node import Node, misfit
from .variables import Variable

__all__ = ["Layer", "LayerOperation", "Normalisation"]

logger = logging.getLogger(__name__)

Normalisation = Literal[False, "train", "predict", "fadeout"]

STATISTICS_RATE = 5e-4
"""Weight of a step in the running statistics, in the long run."""


class LayerOperation(nn.Module):
    """Parameters of a layer and what follows its linear map; features are on axis 1.

    Attributes
    ----------
    w, b, gamma, mean, std : Tensor
        Weights, bias (for prelu with slopes as a second column), scale and running statistics.
    updates : Tensor
        Number of steps that went into the running statistics.
    """

    w: torch.Tensor
    b: torch.Tensor
    gamma: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor
    updates: torch.Tensor

    def __init__(
        self,
        parameters: dict[str, torch.Tensor],
        activation_func: str,
        normalisation: Normalisation,
        dropout_rate: Variable | None,
        gradnet_rate: Variable | None,
    ) -> None:
        super().__init__()
        for name, value in parameters.items():
            register_tensor(self, name, value)
        self.normalisation = normalisation
        self.dropout_rate = dropout_rate
        self.gradnet_rate = gradnet_rate
        self.activate = get_activation("", activation_func)
        self.maxout = maxout_factor("", activation_func)
        self.has_slope = activation_func == "prelu"

    def linear_bias(self) -> torch.Tensor | None:
        """Return the bias that the linear map adds itself: with batch normalisation it comes after that."""
        return None if self.normalisation else self.bias()

    def bias(self) -> torch.Tensor:
        """Return the bias, without slopes."""
        b = self.b
        return b[:, 0] if self.has_slope else b

    def finish(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise, activate and drop out."""
        if self.normalisation:
            x = self.normalise(x)
        if self.activate is not None:
            x = self.activate(x)
        elif self.has_slope:
            x = F.prelu(x, self.b[:, 1].to(x.dtype))
        else:
            x = x.unflatten(1, (x.shape[1] // self.maxout, self.maxout)).amax(2)
        if self.dropout_rate is not None and self.training:
            rate: float = self.dropout_rate.value  # type: ignore[assignment]
            if rate > 0:
                x = F.dropout(x, rate, True)
        return x

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise by the batch's statistics in training, by the running ones otherwise, and add the bias.

        The small number in the root, (1e-6)², bounds the standard deviation as adding 1e-6 to it would.
        With ``'fadeout'`` less is normalised the lower the rate is; running statistics stay those of the data.
        """
        if x.dtype in (torch.bfloat16, torch.float16) and torch.is_autocast_enabled(x.device.type):
            # Autocast on the CPU would copy the activations to float32 and keep the copy for the gradient; statistics
            # are summed in float32 all the same.
            with torch.autocast(x.device.type, enabled=False):
                return self.normalise(x)
        gamma = self.gamma
        mean = self.mean
        std = self.std
        rate = 1.0
        if self.normalisation == "fadeout" and self.gradnet_rate is not None:
            rate = self.gradnet_rate.value  # type: ignore[assignment]
        if rate < 1:
            return self._faded(x, rate)
        if self.normalisation == "predict" or not self.training:
            return F.batch_norm(x, mean, std.square(), gamma, self.bias(), False, 0.0, 1e-12)
        batch_mean, batch_var = torch.zeros_like(mean), torch.ones_like(std)
        x = F.batch_norm(x, batch_mean, batch_var, gamma, self.bias(), True, 1.0, 1e-12)
        count = x.numel() // x.shape[1]
        self._accumulate(batch_mean, (batch_var * ((count - 1) / count)).sqrt())
        return x

    def _faded(self, x: torch.Tensor, rate: float) -> torch.Tensor:
        """Normalise by statistics that are drawn to 0 and 1, with gamma drawn to 0, and add the bias."""
        mean, std = self.mean, self.std
        if self.training:
            axes = [0, *range(2, x.ndim)]
            values = x if x.dtype == torch.float64 else x.float()
            variance, mean = torch.var_mean(values, axes, correction=0)
            std = (variance + 1e-12).sqrt()
            self._accumulate(mean, std)
        scale = rate * self.gamma / (rate * std + 1 - rate)
        shift = self.bias() - scale * rate * mean
        spatial = (-1, *(1,) * (x.ndim - 2))
        return (x * scale.reshape(spatial) + shift.reshape(spatial)).to(x.dtype)

    @torch.no_grad()
    def _accumulate(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Take a batch's statistics into the running ones."""
        # A plain running mean would need thousands of steps to forget its first values 0 and 1.
        rate = (10.0 / (10.0 + self.updates)).clamp_min(STATISTICS_RATE).to(self.mean.dtype)
        self.mean.lerp_(mean, rate)
        self.std.lerp_(std, rate)
        self.updates += 1


Operation = TypeVar("Operation", bound=LayerOperation)


class Layer(Node):
    """Base of `Perceptron`, `Conv` and `UpConv`: checks and makes what they have in common."""

    n_f: int
    activation_func: str
    batch_normalisation: Normalisation
    transpose_w: bool = False
    operation: LayerOperation

    @property
    def output_axis(self) -> int:
        """Axis of `w` on which its output features are."""
        return int(self.transpose_w)

    @property
    def measures_statistics(self) -> bool:
        """Whether it normalises by the statistics of the batch in training, and keeps running ones."""
        return self.batch_normalisation in ("train", "fadeout")

    def _set_common(
        self,
        n_f: int,
        activation_func: str,
        batch_normalisation: Normalisation,
        dropout_rate: float,
        gradnet_mode: Any,
    ) -> None:
        if isinstance(n_f, bool) or not isinstance(n_f, int | np.integer) or n_f < 1:
            raise ModelError(f"{self.title}: n_f must be a whole number from 1 on, not {n_f!r}.")
        self.n_f = int(n_f)
        title = self.title
        self.activation_func = activation_func
        get_activation(title, activation_func)
        self._maxout = maxout_factor(title, activation_func)
        if self.n_f % self._maxout:
            raise ModelError(f"{title}: {activation_func!r} needs n_f to be a multiple of {self._maxout}, not {n_f}.")
        if batch_normalisation not in (False, None, 0, "train", "predict", "fadeout"):
            raise ModelError(
                f"{title}: batch_normalisation must be False, 'train', 'predict' or 'fadeout', "
                f"not {batch_normalisation!r}."
            )
        self.batch_normalisation = batch_normalisation or False
        if not isinstance(gradnet_mode, bool | str | int | None):
            raise ModelError(f"{title}: gradnet_mode must be None, True or a name, not {gradnet_mode!r}.")
        self.gradnet_mode = gradnet_mode
        if batch_normalisation == "fadeout":
            if not gradnet_mode:
                raise ModelError(
                    f"{title}: batch_normalisation='fadeout' follows the gradnet_rate, which needs gradnet_mode=True."
                )
            logger.warning("%s: fading batch normalisation out to less than a half doesn't train well.", title)
        if gradnet_mode:
            self._add_variable(
                "gradnet_rate",
                1.0,
                minimum=0.0,
                maximum=1.0,
                help="share of batch normalisation that is left while it fades out",
            )
        if dropout_rate:
            self._add_variable(
                "dropout_rate",
                dropout_rate,
                minimum=0.0,
                maximum=1.0,
                exclusive_maximum=True,
                help="share of the outputs that is set to 0 in training",
            )

    def _make_operation(
        self,
        kind: type[Operation],
        given: tuple[ParameterLike, ParameterLike, ParameterLike, ParameterLike, ParameterLike],
        w_shape: Sequence[int],
        filter_size: int,
        default_w: Callable[[], torch.Tensor],
        default_b: Callable[[], torch.Tensor] | None = None,
    ) -> Operation:
        """Return the operation with its parameters, of which w, b, gamma, mean and std may be `given`."""
        w, b, gamma, mean, std = given
        title, n, mode = self.title, self.n_f, self.batch_normalisation
        if mode in ("train", "fadeout") and (mean is not None or std is not None):
            raise ModelError(f"{title}: with batch_normalisation={mode!r} mean and std are measured, don't give them.")
        if not mode and not (gamma is mean is std is None):
            raise ModelError(f"{title}: gamma, mean and std need batch_normalisation.")
        b_shape = (n, 2) if self.activation_func == "prelu" else (n,)
        parameters = {
            "w": make_parameter(title, "w", w, w_shape, default_w),
            "b": make_parameter(
                title, "b", b, b_shape, default_b or (lambda: initbias(n, self.activation_func, filter_size))
            ),
        }
        if mode:
            trainable = mode != "predict"
            parameters |= {
                "gamma": make_parameter(title, "gamma", gamma, (n,), lambda: torch.ones(n), trainable=trainable),
                "mean": make_parameter(title, "mean", mean, (n,), lambda: torch.zeros(n), trainable=False),
                "std": make_parameter(title, "std", std, (n,), lambda: torch.ones(n), trainable=False),
            }
            if trainable:
                parameters["updates"] = torch.zeros((), dtype=torch.int64)
        rates = self.variables.get("dropout_rate"), self.variables.get("gradnet_rate")
        return kind(parameters, self.activation_func, mode, *rates)

    def _dual_arguments(self, parent: Node, n_in: int, share_w: bool, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the layer that maps `parent` back to `n_in` features."""
        features = self.shape["f"]
        if not parent.shape.hastag("f") or parent.shape["f"] != features:
            raise misfit(
                self,
                f"its dual needs a parent of size {features} on axis f, but {parent.name!r} has {parent.shape.text}.",
            )
        rate = self.variables.get("dropout_rate")
        arguments: dict[str, Any] = {
            "activation_func": self.activation_func,
            "batch_normalisation": self.batch_normalisation,
            "dropout_rate": 0 if rate is None else rate.value,
            "gradnet_mode": self.gradnet_mode,
            "name": f"{self.name}_T",
            **given,
        }
        arguments.setdefault("n_f", n_in * maxout_factor(self.title, arguments["activation_func"]))
        if share_w:
            if "w" in given:
                raise ModelError(f"{self.title}: its dual can't share w and be given another one.")
            if self._maxout > 1:
                raise misfit(self, f"w can't be shared with its dual, because {self.activation_func} joins features.")
            w = self.operation.w
            arguments["w"] = w if isinstance(w, nn.Parameter) else [w, "const"]
            arguments["transpose_w"] = not self.transpose_w
        return arguments

    @property
    def _n_out(self) -> int:
        """Number of features that come out."""
        return self.n_f // self._maxout

    @property
    def common_detail(self) -> str:
        """Activation, normalisation and dropout, where they say something."""
        parts = [self.activation_func]
        if self.batch_normalisation:
            parts.append(f"batch norm {self.batch_normalisation}")
        if "dropout_rate" in self.variables:
            parts.append(f"dropout {self.variables['dropout_rate'].value:g}")
        return ", ".join(parts)
