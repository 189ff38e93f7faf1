"""A trained recurrent network, one step at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from elektronn_tui.errors import ModelError, ShapeError, did_you_mean

from .feeding import computing_tensor, in_evaluation, to_numpy, to_tensor
from .model import Model
from .node import Node
from .plan import Plan
from .scan import ScanN, ScanOutput

__all__ = ["RecurrentStep", "one_step"]

Array = npt.NDArray[Any]
State = dict[str, Array]


class RecurrentStep:
    """The step of a recurrent model as a function: slices and state in, results and next state out.

    It computes what the recurrence computes, in evaluation mode and with the parameters that the model has at the
    moment, but sequences need no end: ::

        step = one_step(model)
        state = step.initial_state(1)
        for chord in chords:  # each (1, 58)
            results, state = step(chord, state)
            print(step.prediction(results))

    Made by `one_step`.

    Attributes
    ----------
    scan : ScanN
    inputs : tuple of str
        Names of the sequences, of which a step takes one slice each.
    memory : tuple of str
        Names of the nodes that are fed back.
    results : tuple of str
        Names of the nodes that a step computes.
    context : tuple of str
        Names of the sources, beside the sequences, that a first state needs: images that the memory starts from, or
        what the step uses at all times.
    """

    def __init__(self, model: Model, scan: ScanN) -> None:
        self._model, self.scan = model, scan
        self.inputs = tuple(node.name for node in scan.in_iterate)
        self.memory = tuple(node.name for node in scan.in_memory)
        self.results = tuple(node.name for node in scan.step_result)
        self._given = [*scan.outside, *scan.in_memory, *scan.in_iterate_0]
        self._plan = Plan(scan.step_result, given=list(dict.fromkeys(self._given)))
        # Only what a first state is made of: slices are given, so that a sequence need not be.
        self._start = Plan([*scan.in_memory, *scan.outside], given=list(scan.in_iterate_0))
        self.context = tuple(node.name for node in self._start.inputs if node not in scan.in_iterate_0)
        outputs = {node.index: node for node in model.nodes.values() if isinstance(node, ScanOutput)}
        self._outputs = [node for _, node in sorted(outputs.items()) if node.parents == (scan,)]
        self._end: Plan | None = None

    def initial_state(
        self,
        batch: int = 1,
        first: Array | Sequence[Array] | None = None,
        context: Mapping[str, npt.ArrayLike] | None = None,
    ) -> State:
        """Return the state before the first step.

        Parameters
        ----------
        batch : int
            Number of sequences that are gone through together.
        first : ndarray or sequence of ndarray, optional
            The first slice of each sequence; needed only if the memory starts from its values.
        context : mapping of str to array_like, optional
            Values of the sources `context`.

        Returns
        -------
        dict of ndarray
            By names of nodes: the memory, and what the step uses that doesn't change.

        Raises
        ------
        ModelError
            If `first` or something of `context` is needed.
        """
        scan, context = self.scan, dict(context or {})
        for name in context:
            if name not in self.context:
                raise ModelError(
                    f"{scan.title} starts without {name!r}; it takes {', '.join(self.context) or 'nothing'}."
                    f"{did_you_mean(name, self.context)}"
                )
        if missing := [name for name in self.context if name not in context]:
            raise ModelError(f"{scan.title} can't start without a value for {', '.join(missing)}; give it in context.")
        slices: dict[Node, npt.ArrayLike] = {}
        if first is not None:
            slices = dict(zip(scan.in_iterate_0, self._one_each(first, "first"), strict=True))
        for node in scan.in_iterate_0:
            if node not in slices:
                # Not a number marks everything that is made of it.
                floating = getattr(torch, node.dtype).is_floating_point
                slices[node] = np.full(_sizes(node, batch), np.nan if floating else 0)
        feeds = [slices[node] if node in slices else context[node.name] for node in self._start.inputs]
        values = self._run(self._start, feeds)
        nodes = [*scan.in_memory, *scan.outside]
        if first is None:
            for node, value in zip(nodes, values, strict=True):
                if value.dtype.kind == "f" and np.isnan(value).any():
                    raise ModelError(
                        f"{node.title} is made from the first slice of a sequence ({', '.join(self.inputs)}): give "
                        "that to initial_state as first."
                    )
        return {node.name: value for node, value in zip(nodes, values, strict=True)}

    def __call__(
        self, x: npt.ArrayLike | Sequence[npt.ArrayLike] | None, state: Mapping[str, npt.ArrayLike]
    ) -> tuple[dict[str, Array], State]:
        """Make one step.

        Parameters
        ----------
        x : ndarray or sequence of ndarray, or None
            One slice of the sequence, with the axes of ``scan.in_iterate_0``; of several sequences one each, in the
            order of `inputs`; None if there are no sequences. If a sequence is computed from an input, by `encoder`
            say, its slice is ``model["encoder"](frames[None])[0]``.
        state : mapping
            From `initial_state` or the step before. It isn't changed.

        Returns
        -------
        results : dict of ndarray
            By name, see `results`; equal to ``scan_out_<name>`` of the recurrence at this step.
        state : dict of ndarray

        Raises
        ------
        ModelError
            If slices or parts of the state are missing.
        ShapeError
            If sizes don't fit.
        """
        scan = self.scan
        known: dict[Node, npt.ArrayLike] = {}
        for node in (*scan.outside, *scan.in_memory):
            if node.name not in state:
                raise ModelError(f"The state of {scan.title} lacks {node.name!r}; begin with initial_state().")
            known[node] = state[node.name]
        known |= dict(zip(scan.in_iterate_0, self._one_each(x, "x"), strict=True))
        results = dict(zip(self.results, self._run(self._plan, [known[n] for n in self._plan.inputs]), strict=True))
        after = {node.name: np.asarray(known[node]) for node in scan.outside}
        after |= {old.name: results[new.name] for old, new in zip(scan.in_memory, scan.out_memory, strict=True)}
        return results, after

    def prediction(
        self, results: Mapping[str, npt.ArrayLike], context: Mapping[str, npt.ArrayLike] | None = None
    ) -> Array:
        """Return the model's prediction as if the sequence ended with these results.

        If the recurrence returns all steps, it is the prediction for a sequence of this one step.

        Parameters
        ----------
        results : mapping
            Of a step.
        context : mapping of str to array_like, optional
            Values of other sources that the prediction needs.

        Raises
        ------
        ModelError
            If a value is missing.
        """
        if self._end is None:
            self._end = Plan([self._model.prediction_node], given=self._outputs)
        context = dict(context or {})
        feeds: list[npt.ArrayLike] = []
        for node in self._end.inputs:
            if isinstance(node, ScanOutput) and node in self._outputs:
                value = np.asarray(results[self.results[node.index]])
                feeds.append(value if self.scan.last_only else value[None])
            elif node.name in context:
                feeds.append(context[node.name])
            else:
                raise ModelError(
                    f"The prediction {self._model.prediction_node.title} also needs {node.name!r}; give it in context."
                )
        return self._run(self._end, feeds)[0]

    def _one_each(self, x: Any, what: str) -> list[npt.ArrayLike]:
        n = len(self.inputs)
        if x is None:
            slices = []
        elif isinstance(x, tuple) or (n != 1 and isinstance(x, list)):
            slices = list(x)
        else:
            slices = [x]
        if len(slices) != n:
            names = ", ".join(self.inputs) or "there are no sequences"
            raise ModelError(
                f"{self.scan.title}: {what} must be one slice for each of {n} sequences ({names}), not {len(slices)}."
            )
        return slices

    def _run(self, plan: Plan, arrays: Sequence[npt.ArrayLike]) -> list[Array]:
        operations = [node.operation for node in plan.nodes]
        like = computing_tensor([self._model.module])
        tensors = [to_tensor(node, array, like) for node, array in zip(plan.inputs, arrays, strict=True)]
        with torch.no_grad(), in_evaluation(operations):
            return [to_numpy(value) for value in plan.run(tensors)]


def one_step(model: Model, scan: str | None = None) -> RecurrentStep:
    """Return the step of a recurrent model as a function; see `RecurrentStep`.

    Parameters
    ----------
    model : Model
    scan : str, optional
        Name of the recurrence, where the model has several.

    Raises
    ------
    ModelError
        If the model has no recurrence, or several and none is named.
    """
    scans = {name: node for name, node in model.nodes.items() if isinstance(node, ScanN)}
    if not scans:
        raise ModelError(f"{model!r} has no recurrence: there is no node of the class ScanN.")
    if scan is None and len(scans) == 1:
        return RecurrentStep(model, next(iter(scans.values())))
    if scan not in scans:
        given = "say which" if scan is None else f"there is no recurrence {scan!r}"
        raise ModelError(f"{given}: the model has {', '.join(scans)}.{did_you_mean(str(scan), scans)}")
    return RecurrentStep(model, scans[scan])


def _sizes(node: Node, batch: int) -> list[int]:
    """Return the sizes of a value of this batch size."""
    if isinstance(batch, bool) or not isinstance(batch, int | np.integer) or batch < 1:
        raise ModelError(f"batch must be a whole number from 1 on, not {batch!r}.")
    sizes = []
    for n, tag in zip(node.shape.shape, node.shape.tags, strict=True):
        if tag != "b" and n is None:
            raise ShapeError(f"{node.title}: the size of axis {tag} isn't known; give initial_state a first slice.")
        sizes.append(batch if tag == "b" else n or 1)
    return sizes
