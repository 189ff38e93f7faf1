"""The update of the weights: clipping, torch's optimiser, multipliers, and averages."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

from .averaging import Averaging
from .checkpoints import Checkpoint, load_weights
from .groups import parameter_groups, parameter_names
from .hyperparameters import USES, Optimiser
from .optimisers import build_optimiser, optimiser_state, restore_optimiser

if TYPE_CHECKING:
    from elektronn_tui.models import Model

__all__ = ["MORE", "Updater"]

MORE = ("clip_norm", "clip_value", "averaging", "ema_decay", "swa_from", "swa_every")
"""Settings of an experiment that the update depends on, beside those of its optimiser."""


class Updater:
    """Updates the weights of a model from their gradients.

    Parameters
    ----------
    model : Model
    settings : Optimiser
    lr_scales, decay_scales : mapping of str to float, optional
        Multipliers of learning rate and weight decay by patterns of names, see `parameter_groups`.
    **more
        Values for the names in `MORE`; off where not given.

    Attributes
    ----------
    values : dict
        What controls set: every setting of `Optimiser` (``name`` as ``optimiser``), those in `MORE`,
        ``lr_scale.PATTERN`` and ``decay_scale.PATTERN``. Read and write them by `get` and `set`.
    kind : str
        The optimiser in use; another one that was set comes with `begin`.
    optimiser : torch.optim.Optimizer
    averaging : Averaging

    Raises
    ------
    ExperimentError
        A multiplier is for nothing that exists.
    """

    def __init__(
        self,
        model: Model,
        settings: Optimiser,
        lr_scales: Mapping[str, float] | None = None,
        decay_scales: Mapping[str, float] | None = None,
        **more: Any,
    ) -> None:
        lr_scales, decay_scales = lr_scales or {}, decay_scales or {}
        self.values: dict[str, Any] = {
            **{field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)},
            **dict.fromkeys(MORE),
            **more,
            **{f"lr_scale.{pattern}": float(scale) for pattern, scale in lr_scales.items()},
            **{f"decay_scale.{pattern}": float(scale) for pattern, scale in decay_scales.items()},
        }
        self.values["optimiser"] = self.kind = self.values.pop("name")
        self._model = model
        self._groups = parameter_groups(model, lr_scales, decay_scales)
        self._names = parameter_names(model)
        self.averaging = Averaging(model.module)
        self._build()

    # --- a step -----------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Forget the gradients of the last step; tell whether another optimiser was set and begins with this one."""
        self.optimiser.zero_grad(set_to_none=True)
        if self.values["optimiser"] == self.kind:
            return False
        self._adopt()
        self.kind = self.values["optimiser"]
        self._build()
        return True

    def step(self, step: int, *, measure: bool = False) -> float | None:
        """Update the weights by the gradients that are there.

        Parameters
        ----------
        step : int
            Which one it is.
        measure : bool
            Measure the norm of the gradients also where it is not needed.

        Returns
        -------
        norm : float or None
            Of all gradients, before they were clipped to `clip_norm`; no update was made where it is not finite.
        """
        values = self.values
        for group in self.optimiser.param_groups:
            if group["lr_pattern"] is not None and group["lr"] == 0:  # frozen: momentum stands still, too
                for parameter in group["params"]:
                    parameter.grad = None
        norm = None
        if values["clip_value"] or values["clip_norm"] or measure:
            parameters = [p for p in self._names if p.grad is not None]
            if values["clip_value"]:
                clip_grad_value_(parameters, values["clip_value"])
            if values["clip_norm"] or measure:
                total = get_total_norm([p.grad for p in parameters if p.grad is not None])
                norm = float(total)
                if not math.isfinite(norm):
                    return norm
                if values["clip_norm"]:
                    clip_grads_with_norm_(parameters, values["clip_norm"], total)
        self.optimiser.step()
        mode = values["averaging"] or "none"
        if mode != "none" or self.averaging.mode != "none":
            decay, first, every = values["ema_decay"], values["swa_from"], values["swa_every"]
            self.averaging.update(step, mode, decay=decay, first=first, every=every)
        return norm

    # --- live values ------------------------------------------------------------------------------

    def get(self, name: str) -> Any:
        """Return a value by the name of its control."""
        self._adopt()
        return self.values[name]

    def set(self, name: str, value: Any) -> None:
        """Give a value; another optimiser is made by the next `begin`."""
        self._adopt()
        self.values[name] = value
        self._push()

    def _build(self) -> None:
        self.optimiser = build_optimiser(self.kind, self._groups, self.values["lr"])
        self._own_eps = self.optimiser.defaults.get("eps")
        self._push()

    def _push(self) -> None:
        """Write the values into the optimiser's groups."""
        self._pushed: list[dict[str, Any]] = []
        for group in self.optimiser.param_groups:
            written: dict[str, Any] = {"lr": self.values["lr"] * self._scale(group, "lr")}
            written["weight_decay"] = self.values["weight_decay"] * self._scale(group, "weight_decay")
            for key in USES[self.kind]:
                written[key] = self.values[key]
            if "eps" in written and written["eps"] is None:
                written["eps"] = self._own_eps
            group.update(written)
            self._pushed.append(written)
        if self.kind == "RMSprop" and self.values["momentum"]:
            for parameter, state in self.optimiser.state.items():  # torch makes it with the first step alone
                if state and "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)

    def _adopt(self) -> None:
        """Take over what a console statement has written into the optimiser's groups."""
        changed = False
        for group, pushed in zip(self.optimiser.param_groups, self._pushed, strict=True):
            for key, value in pushed.items():
                if group[key] != value:
                    scale = self._scale(group, key)
                    self.values[key] = group[key] / scale if scale not in (0.0, 1.0) else group[key]
                    changed = True
        if changed:
            self._push()

    def _scale(self, group: Mapping[str, Any], key: str) -> float:
        if key == "lr":
            return self._multiplier("lr_scale", group["lr_pattern"])
        if key == "weight_decay":
            return float(group["weight_decay_scale"]) * self._multiplier("decay_scale", group["decay_pattern"])
        return 1.0

    def _multiplier(self, kind: str, pattern: str | None) -> float:
        return 1.0 if pattern is None else float(self.values[f"{kind}.{pattern}"])

    # --- checkpoints ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return which optimiser it is, its state by names of parameters, and how far the average is."""
        return {
            "kind": self.kind,
            "parameters": optimiser_state(self.optimiser, self._names),
            "averaging": {"mode": self.averaging.mode, "count": self.averaging.count},
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint whose weights the model has: its optimiser with its state, and its average.

        Values are the controls' to bring back.
        """
        saved = checkpoint.optimiser
        self.kind = saved["kind"]
        self._build()
        restore_optimiser(self.optimiser, self._names, saved["parameters"])
        self._push()
        averaging = saved["averaging"]
        self.averaging.load(
            averaging["mode"], averaging["count"], lambda: load_weights(self._model, checkpoint.averaged_file)
        )
