"""What foreign code does to arrays, found by running it: sizes, strides, and which voxels an output depends on."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .feeding import computing_tensor
from .shape import TaggedShape

__all__ = ["AxisGeometry", "Probe", "Refusal", "undisturbed"]

Sizes = tuple[tuple[int, ...], ...]

STEPS = (*range(1, 11), 12, 14, 15, 16, 18, 20, 24, 28, 30, 32, 36, 40, 48, 54, 56, 60, 64, 72, 80, 96, 112, 128)
"""By how much an axis may have to grow until the sizes fit again."""
SPANS = (720, 840, 1024, 9240, 16380, 120, 84, 72, 60, 48, 24, 12, 8, 6, 4, 2, 1)
"""Growths, in such steps, over which strides are counted: multiples of most strides first."""
BLOCK = 8
"""Number of neighbouring outputs, at least, whose windows are looked at: behind an up-sampling they differ."""
LONGEST, MOST_NUMBERS, MOST_COST = 1024, 2**24, 1e10
"""Where the search for a window ends: size of the axis, numbers of all inputs, multiplications of one pass."""
LITTLE_COST, FEW_NUMBERS = 3e8, 2**18
"""Up to where computing is faster than the meta device."""


class Refusal(Exception):
    """The code doesn't take arrays of these sizes; the text is what it said."""


@dataclass(frozen=True)
class AxisGeometry:
    """What the code does to one spatial axis.

    Attributes
    ----------
    stride : Fraction or None
        Distance of outputs in input voxels of the network; None if the number of outputs doesn't follow the input's.
    windows : tuple of (int, float) or None
        For each parent the number of its voxels that an output sees (the most, where outputs differ), and where the
        middle of the first output's window lies, in its voxels. None for a parent without this axis or influence.
        Altogether None if an output sees everything, or more than could be tried.
    """

    stride: Fraction | None
    windows: tuple[tuple[int, float] | None, ...] | None


@contextlib.contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Run a module in evaluation mode, and leave modes, buffers and random generators as they were."""
    modes = [(m, m.training) for m in module.modules()]
    buffers = [(m, key, b, b.detach().clone()) for m, _ in modes for key, b in m._buffers.items() if b is not None]
    devices = {b.device for _, _, b, _ in buffers} | {p.device for p in module.parameters()}
    for m, _ in modes:
        m.training = False
    try:
        with torch.random.fork_rng([d for d in devices if d.type == "cuda"]), torch.no_grad():
            yield
    finally:
        for m, mode in modes:
            m.training = mode
        for m, key, buffer, content in buffers:
            m._buffers[key] = buffer
            buffer.copy_(content)


@contextlib.contextmanager
def _counted(module: nn.Module) -> Iterator[list[int]]:
    """Collect the multiplications of convolutions and linear layers. Torch's own counter takes seconds to import."""
    costs: list[int] = []

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        at = inputs[0] if getattr(layer, "transposed", False) else output
        features = at.shape[-1] if isinstance(layer, nn.Linear) else at.shape[1]
        costs.append(layer.weight.numel() * at.numel() // max(features, 1))  # type: ignore[operator]

    layers = (nn.Linear, nn.modules.conv._ConvNd)
    hooks = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, layers)]
    try:
        yield costs
    finally:
        for hook in hooks:
            hook.remove()


class Probe:
    """Runs a module on arrays of other sizes than the declared ones.

    Where computing would take long, sizes are found on the meta device, if the code can run there.

    Parameters
    ----------
    module : Module
        Called with one tensor for each parent, returns one tensor.
    parents : sequence of TaggedShape
        Unknown batches are taken as 2.
    dtypes : sequence of str
        Of the parents.

    Attributes
    ----------
    output : tuple of int
        Size of the output at the declared sizes.
    cost : int
        Multiplications of convolutions and linear layers at the declared sizes.

    Raises
    ------
    Refusal
        If the code doesn't take the declared sizes.
    ModelError
        If it returns something else than one tensor.
    """

    def __init__(self, module: nn.Module, parents: Sequence[TaggedShape], dtypes: Sequence[str]) -> None:
        self.module, self.parents, self.dtypes = module, tuple(parents), tuple(dtypes)
        self.declared = self.known(parents)
        self._known: dict[Sizes, tuple[int, ...]] = {}
        self._meta: bool | None = None  # whether it can run there; not known yet
        # Every weight at every position: an upper bound for what convolutions do.
        weights = sum(p.numel() for p in module.parameters())
        self.cost = weights * max((math.prod(n[2:]) * n[0] for n in self.declared if n), default=1)
        with _counted(module) as costs:
            self.output = self.size(self.declared)
        self.cost = sum(costs)

    @staticmethod
    def known(parents: Sequence[TaggedShape]) -> Sizes:
        """Return sizes in which unknown ones are 2."""
        return tuple(tuple(2 if n is None else n for n in shape.shape) for shape in parents)

    def size(self, sizes: Sizes) -> tuple[int, ...]:
        """Return the output's size for inputs of these sizes; each is tried once.

        Raises
        ------
        Refusal
            If the code doesn't take them.
        """
        if sizes not in self._known:
            self._known[sizes] = self._size(sizes)
        return self._known[sizes]

    def _size(self, sizes: Sizes) -> tuple[int, ...]:
        if self._meta is not False and not self._within(sizes, FEW_NUMBERS, LITTLE_COST):
            try:
                output = self._compute_meta(sizes)
            except ModelError:
                raise
            except Exception as error:
                if self._meta or (sizes != self.declared and not self._within(sizes, MOST_NUMBERS, MOST_COST)):
                    raise Refusal(_first_line(error)) from error
            else:
                self._meta = True
                return tuple(output.shape)
            size = tuple(self._compute(self._inputs(sizes)).shape)
            self._meta = False
            return size
        return tuple(self._compute(self._inputs(sizes)).shape)

    def _within(self, sizes: Sizes, numbers: int, cost: float) -> bool:
        """Return whether inputs of these sizes hold so many numbers, and cost so many multiplications, at most."""
        declared, total = (sum(math.prod(size) for size in all_sizes) for all_sizes in (self.declared, sizes))
        return total <= numbers and self.cost * total / max(declared, 1) <= cost

    def geometry(self, tag: str, axis: int) -> AxisGeometry:
        """Return what happens to the spatial axis `tag`, which is axis `axis` of the output."""
        step = self._step(tag)
        if step is None:
            return AxisGeometry(None, None)
        smallest = self._smallest(tag, step)
        stride = self._stride(tag, axis, step, smallest)
        if stride is None:
            return AxisGeometry(None, None)
        return AxisGeometry(stride, self._windows(tag, axis, step, stride, smallest))

    # Sizes

    def _unit(self, tag: str) -> Fraction:
        """Return the smallest growth in input voxels that is whole for all parents."""
        strides = [Fraction(s.strides[s.spatial_tags.index(tag)]).limit_denominator() for s in self._with(tag)]
        return Fraction(math.lcm(*(s.numerator for s in strides)), math.gcd(*(s.denominator for s in strides)))

    def _with(self, tag: str) -> list[TaggedShape]:
        return [shape for shape in self.parents if shape.hastag(tag)]

    def _grown(self, sizes: Sizes, tag: str, steps: int) -> Sizes:
        unit = self._unit(tag)
        result = []
        for shape, size in zip(self.parents, sizes, strict=True):
            if shape.hastag(tag):
                stride = Fraction(shape.strides[shape.spatial_tags.index(tag)]).limit_denominator()
                i = shape.tag2index(tag)
                size = (*size[:i], size[i] + int(steps * unit / stride), *size[i + 1 :])
            result.append(size)
        return tuple(result)

    def _fits(self, sizes: Sizes) -> bool:
        if min((n for size in sizes for n in size), default=1) < 1:
            return False
        try:
            return min(self.size(sizes), default=1) > 0
        except Refusal:
            return False

    def _step(self, tag: str) -> int | None:
        for step in STEPS:
            if self._fits(self._grown(self.declared, tag, step)):
                return step
        return None

    def _smallest(self, tag: str, step: int) -> Sizes:
        """Return sizes that are as small as possible on the other spatial axes and on this one."""
        sizes = self.declared
        others = dict.fromkeys(t for shape in self.parents for t in shape.spatial_tags if t != tag)
        for other in [*others, tag]:
            by = step if other == tag else self._step(other)
            if by is None:
                continue
            low, high = 0, 1
            while self._fits(self._grown(sizes, other, -high * by)):
                low, high = high, 2 * high
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self._fits(self._grown(sizes, other, -middle * by)) else (low, middle)
            sizes = self._grown(sizes, other, -low * by)
        return sizes

    def _stride(self, tag: str, axis: int, step: int, sizes: Sizes) -> Fraction | None:
        def count(steps: int) -> int | None:
            grown = self._grown(sizes, tag, steps)
            return self.size(grown)[axis] if self._fits(grown) else None

        def gained(span: int) -> int | None:
            """Return how many outputs each such span adds; None if not all add as many, or can't be tried."""
            # A span that is no multiple of the stride drifts: the next ones give another number sooner or later.
            counts = [count(i * span * step) for i in range(5)]
            first, second = counts[:2]
            if first is None or second is None or any(n != first + i * (second - first) for i, n in enumerate(counts)):
                return None
            return second - first

        for span in SPANS:
            if self._meta is False and not self._within(
                self._grown(sizes, tag, 4 * span * step), MOST_NUMBERS, MOST_COST
            ):
                continue
            near = gained(span)
            if near:
                steps = Fraction(span, near)
                # A drift too slow to be seen gives an odd fraction; the right one is near, simpler and has no drift.
                # Outputs come one by one, or behind an up-sampling several at once.
                for at_once in (1, 2, 4):
                    simple = _simplest(Fraction(4 * span, 4 * near + at_once), Fraction(span, near))
                    if simple.denominator < steps.denominator:
                        times = max(1, span // simple.numerator)
                        if gained(times * simple.numerator) == times * simple.denominator:
                            steps = simple
                            break
                return steps * step * self._unit(tag)
            if near == 0 and span >= 12:
                return None
        return None

    # Windows

    def _windows(
        self, tag: str, axis: int, step: int, stride: Fraction, sizes: Sizes
    ) -> tuple[tuple[int, float] | None, ...] | None:
        """Grow the axis until outputs in its middle don't see its ends; then find what they see."""
        period = (step * self._unit(tag) / stride).numerator
        number = period * math.ceil(BLOCK / period)
        steps = 0
        while True:
            grown = self._grown(sizes, tag, steps)
            length = max(n[s.tag2index(tag)] for n, s in zip(grown, self.parents, strict=True) if s.hastag(tag))
            if length > LONGEST or not self._within(grown, MOST_NUMBERS, MOST_COST):
                return None
            try:
                outputs = self.size(grown)[axis]
            except Refusal:
                return None
            if outputs >= number:
                first = (outputs - number) // 2
                view = _View(self, grown, tag, axis, slice(first, first + number))
                if not view.reaches_an_end():
                    break
            steps += step * max(1, math.ceil(length / (2 * step)))
        found: list[tuple[int, float] | None] = []
        for j, shape in enumerate(self.parents):
            window = view.window(j) if shape.hastag(tag) else None
            if window is not None:
                low, high = window
                per_output = float(stride / Fraction(shape.strides[shape.spatial_tags.index(tag)]).limit_denominator())
                middles = (low + high) / 2 - per_output * np.arange(first, first + number)
                centre = float(middles.mean())
                if np.ptp(middles):  # half voxels are as exact as such a position can be
                    centre = round(2 * centre) / 2 if per_output >= 1 else centre
                found.append((int((high - low).max()) + 1, centre))
            else:
                found.append(None)
        return tuple(found) if any(w is not None for w in found) else None

    # Computing

    def _inputs(self, sizes: Sizes) -> list[torch.Tensor]:
        """Return random inputs, always the same."""
        generator = torch.Generator().manual_seed(0)
        parameter = self._parameter()
        tensors = []
        for size, name in zip(sizes, self.dtypes, strict=True):
            dtype: torch.dtype = getattr(torch, name)
            if dtype.is_floating_point:
                x = torch.randn(size, generator=generator).to(parameter.dtype)
            else:
                x = torch.randint(0, 2, size, generator=generator).to(dtype)
            tensors.append(x.to(parameter.device))
        return tensors

    def _parameter(self) -> torch.Tensor:
        """Return a tensor of the type and on the device that the module computes with."""
        return computing_tensor([self.module])

    def _compute(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        try:
            with undisturbed(self.module):
                output = self.module(*inputs)
        except Exception as error:
            raise Refusal(_first_line(error)) from error
        return _one_tensor(output)

    def _compute_meta(self, sizes: Sizes) -> torch.Tensor:
        tensors = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        state = {key: torch.empty_like(value, device="meta") for key, value in tensors.items()}
        dtype = self._parameter().dtype
        inputs = []
        for size, name in zip(sizes, self.dtypes, strict=True):
            own: torch.dtype = getattr(torch, name)
            inputs.append(torch.empty(size, dtype=dtype if own.is_floating_point else own, device="meta"))
        with undisturbed(self.module):
            output = torch.func.functional_call(self.module, state, tuple(inputs))
        if _one_tensor(output).device.type != "meta":
            raise Refusal("it computes on another device than that of its input")
        return output


class _View:
    """Which voxels of the inputs some neighbouring outputs depend on, along one axis.

    A part of an input is made not-a-number: what depends on it, by whatever weights, becomes that, too. Code that
    swallows such numbers is looked at by changing the values at random instead.
    """

    def __init__(self, probe: Probe, sizes: Sizes, tag: str, axis: int, outputs: slice) -> None:
        self.probe, self.tag, self.axis, self.outputs = probe, tag, axis, outputs
        self.inputs = probe._inputs(sizes)
        self.reference = probe._compute(self.inputs)
        self._poisons = [self._is_poisoned(j) for j in range(len(self.inputs))]

    def _axis(self, j: int) -> int | None:
        shape = self.probe.parents[j]
        return shape.tag2index(self.tag) if shape.hastag(self.tag) else None

    def _length(self, j: int) -> int:
        axis = self._axis(j)
        assert axis is not None
        return self.inputs[j].shape[axis]

    def _is_poisoned(self, j: int) -> bool:
        if self._axis(j) is None or not self.inputs[j].is_floating_point():
            return False
        return bool(self._poisoned(j, 0, self._length(j)).all())

    def _part(self, x: torch.Tensor, j: int, start: int, stop: int) -> torch.Tensor:
        axis = self._axis(j)
        assert axis is not None
        return x.narrow(axis, start, stop - start)

    def _along_axis(self, flags: torch.Tensor) -> np.ndarray:
        flags = flags.movedim(self.axis, 0).flatten(1).any(1)
        return flags[self.outputs].cpu().numpy()

    def _poisoned(self, j: int, start: int, stop: int) -> np.ndarray:
        inputs = list(self.inputs)
        inputs[j] = inputs[j].clone()
        self._part(inputs[j], j, start, stop).fill_(math.nan)
        return self._along_axis(self.probe._compute(inputs).isnan())

    def _changed(self, j: int, start: int, stop: int, draws: int = 4) -> np.ndarray:
        result = np.zeros(self.outputs.stop - self.outputs.start, bool)
        generator = torch.Generator().manual_seed(1)
        for _ in range(draws):
            inputs = list(self.inputs)
            inputs[j] = inputs[j].clone()
            part = self._part(inputs[j], j, start, stop)
            if part.is_floating_point():
                part.copy_(3 * torch.randn(part.shape, generator=generator))
            else:
                part.copy_(1 - part.to(torch.int64))
            result |= self._along_axis(self.probe._compute(inputs) != self.reference)
        return result

    def sees(self, j: int, start: int, stop: int) -> np.ndarray:
        """Return for each output whether it depends on voxels from `start` up to `stop` of parent `j`."""
        if stop <= start:
            return np.zeros(self.outputs.stop - self.outputs.start, bool)
        return (self._poisoned if self._poisons[j] else self._changed)(j, start, stop)

    def reaches_an_end(self) -> bool:
        """Return whether an output depends on the first or last voxel of a parent."""
        for j in range(len(self.inputs)):
            if self._axis(j) is None:
                continue
            n = self._length(j)
            if self.sees(j, 0, 1).any() or self.sees(j, n - 1, n).any():
                return True
        return False

    def window(self, j: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the first and last voxel of parent `j` that each output sees; None if they don't see it."""
        n = self._length(j)
        if not self.sees(j, 0, n).all():
            return None
        low = self._last_unseen(j, lambda i: (0, i)) - 1
        high = n - self._last_unseen(j, lambda i: (n - i, n))
        if self._poisons[j]:
            outside = ((0, int(low.min())), (int(high.max()) + 1, n))
            if any(self._changed(j, start, stop, 2).any() for start, stop in outside if stop > start):
                self._poisons[j] = False  # one way through the code swallows what another shows
                return self.window(j)
        return low, high

    def _last_unseen(self, j: int, part: Callable[[int], tuple[int, int]]) -> np.ndarray:
        """Return for each output the smallest i for which it sees ``part(i)``, which grows with i."""
        count = self.outputs.stop - self.outputs.start
        unseen, seen = np.zeros(count, int), np.full(count, self._length(j))
        while (gap := seen - unseen).max() > 1:
            widest = int(gap.argmax())
            i = int(unseen[widest] + gap[widest] // 2)
            reached = self.sees(j, *part(i))
            seen = np.where(reached, np.minimum(seen, i), seen)
            unseen = np.where(reached, unseen, np.maximum(unseen, i))
        return seen


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """Return the fraction from `low` to `high` with the smallest denominator."""
    denominator = 1
    while (numerator := math.ceil(low * denominator)) > high * denominator:
        denominator += 1
    return Fraction(numerator, denominator)


def _one_tensor(output: object) -> torch.Tensor:
    if not isinstance(output, torch.Tensor):
        raise ModelError(f"it returns a {type(output).__name__}, but a node has one tensor; pick one by a function")
    return output


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__).rstrip(".")
