"""Training examples: a pair is drawn, then the warp, then a position where it fits, then the voxels are sampled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .augment import warm_up as warm_up_grey
from .augmentation import AugmentSettings, stream
from .content import Selection, Selector, counted_share
from .counters import DataStats
from .deformation import Deformation
from .derived import GridTarget
from .disturbances import warm_up as warm_up_blur
from .geometry import Geometry
from .pairs import Pair
from .reading import Reader
from .sampling import Scratch, warm_up
from .scaling import Scaling
from .sources import Vec3
from .warp import Warp, place, positions, target_matrix, translated

__all__ = ["Example", "Patches"]

# Numbers of random streams; those of augmentation begin at 8.
_PAIR, _WARP, _POSITION, _GREY, _CONTENT = range(5)
# Places that are tried for an example of which too much doesn't count; after the first ones around voxels that do.
_TRIES = 24
_ANYWHERE = 4
_KNOWN_PLACES = 256
# Voxels of a class that are tried until one of them is in the target.
_ANCHORS = 8
# How strong a deformation is tried, until there is room for it.
_STRENGTHS = (1.0, 0.75, 0.5, 0.25)


@dataclass(frozen=True)
class Example:
    """One training example.

    Attributes
    ----------
    raw
        (channels, z, y, x) float32, scaled.
    target
        (channels, z', y', x'): int64 class ids with -1 for voxels to ignore, or float32. None for unlabelled pairs.
    mask
        (channels, z', y', x') bool, where the target counts; None where nothing is masked in the whole set.
    pair
        Index of the pair that it is from.
    position
        Raw voxel (z, y, x) of the patch's first voxel; for a warped one the translation of its matrix.
    matrix
        4×4 float64: voxel (z, y, x, 1) of the patch to voxel of the raw volume.
    deformation
        How voxels of the patch were moved before the matrix was applied; None for not at all.
    mask_class_labeled, mask_class_not_present
        (channels * classes) float32: 1 where the pair's labels hold a class, and where it is known to be absent.
    """

    raw: npt.NDArray[np.float32]
    target: npt.NDArray[Any] | None
    mask: npt.NDArray[np.bool_] | None
    pair: int
    position: tuple[int, int, int]
    matrix: npt.NDArray[np.float64]
    deformation: Deformation | None = None
    mask_class_labeled: npt.NDArray[np.float32] | None = None
    mask_class_not_present: npt.NDArray[np.float32] | None = None


class Patches:
    """An endless, numbered supply of training examples.

    Example `i` is a function of the seed, `i` and the settings: whoever makes it, in whatever order or thread.
    Pair, warp, position and grey values are drawn from streams of their own, so that a change of one setting
    changes nothing else about an example.

    Parameters
    ----------
    pairs
        Where examples come from, each as often as its weight says. All labelled, or none.
    geometry
        Shapes of input and target.
    seed
        Any integer ≥ 0.
    scaling
        Of raw values; None: by the dtype, integers to 0 to 1.
    classes
        Number of classes of an integer target; ids beyond them are refused. None: any.
    ignore
        Target values that are ignored, apart from negative ones; they become -1.
    selection
        What examples shall hold.
    class_masks
        Whether batches tell which classes are labelled and which are known to be absent, as `MultinoulliNLL` takes it.

    Raises
    ------
    DataError
        Pairs that don't go together (channels, dtypes), are smaller than a patch, have labels out of range, or hold no
        patch that may be selected.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        geometry: Geometry,
        *,
        seed: int,
        scaling: Scaling | None = None,
        classes: int | None = None,
        ignore: Sequence[int] = (),
        selection: Selection | None = None,
        class_masks: bool = False,
    ) -> None:
        if seed < 0:
            raise DataError(f"Patches: seed={seed}; an integer ≥ 0 is needed.")
        self.reader = Reader(pairs, geometry, scaling=scaling, classes=classes, ignore=ignore)
        self.pairs = self.reader.pairs
        self.geometry = geometry
        self.scaling = self.reader.scaling
        self.seed = seed
        weights = np.array([pair.weight for pair in self.pairs])
        if not weights.sum() > 0:
            raise DataError("Patches: all pairs have weight 0; nothing can be drawn.")
        self._shares = np.cumsum(weights) / weights.sum()
        self._class_masks = class_masks
        self._local = threading.local()
        self._selector: Selector | None = None
        self._most_ignored = 1.0
        self._known: list[list[Vec3]] = []
        if selection is not None and (selection.balance or selection.limited):
            self._selector = Selector(self.pairs, geometry, selection, weights, classes, ignore)
            self._most_ignored = selection.most_ignored
        if self._most_ignored < 1:
            self._known = [
                self._known_places(k) if weights[k] and not pair.absent else [] for k, pair in enumerate(self.pairs)
            ]

    def warm_up(self) -> None:
        """Compile what examples of these pairs need, or load it from numba's cache, before the first step waits."""
        warm_up(self.reader.linear_dtypes(), self.reader.label_dtypes())
        warm_up_grey()
        warm_up_blur()
        for pair in self.pairs:
            if isinstance(pair.target, GridTarget):
                pair.target.warm_up()

    def stats(self) -> DataStats:
        """Return what the examples so far cost."""
        return self.reader.counters.total()

    def example(self, i: int, settings: AugmentSettings) -> Example:
        """Return example `i`.

        Raises
        ------
        DataError
            Its voxels can't be read, or are NaN or out of range.
        """
        raw, target, mask = self.reader.empty(1)
        pair, position, matrix, deformation = self._fill(
            i, settings, raw[0], None if target is None else target[0], None if mask is None else mask[0]
        )
        return Example(
            raw[0],
            None if target is None else target[0],
            None if mask is None else mask[0],
            pair,
            position,
            matrix,
            deformation,
            **{name: of_pairs[pair] for name, of_pairs in self.reader.class_masks.items()},
        )

    def batch(self, indices: Sequence[int], settings: AugmentSettings) -> dict[str, np.ndarray]:
        """Return several examples, stacked.

        Parameters
        ----------
        indices
            Numbers of the examples.
        settings
            In force for all of them.

        Returns
        -------
        dict
            ``raw`` (b, channels, z, y, x) float32; ``target`` (b, channels, z', y', x') int64 or float32 unless
            the pairs are unlabelled; ``mask`` like the target, bool, where pairs have masks or float targets; with
            `class_masks` also ``mask_class_labeled`` and ``mask_class_not_present`` (b, channels * classes) float32.
        """
        raw, target, mask = self.reader.empty(len(indices))
        pairs = [
            self._fill(i, settings, raw[k], None if target is None else target[k], None if mask is None else mask[k])[0]
            for k, i in enumerate(indices)
        ]
        named = {"raw": raw, "target": target, "mask": mask}
        batch = {name: array for name, array in named.items() if array is not None}
        if self._class_masks:
            batch |= {name: of_pairs[pairs] for name, of_pairs in self.reader.class_masks.items()}
        return batch

    def _fill(
        self,
        i: int,
        settings: AugmentSettings,
        raw: npt.NDArray[np.float32],
        target: npt.NDArray[Any] | None,
        mask: npt.NDArray[np.bool_] | None,
    ) -> tuple[int, Vec3, npt.NDArray[np.float64], Deformation | None]:
        if i < 0:
            raise DataError(f"example {i}: examples are numbered from 0.")
        begin = perf_counter()
        entropy = (self.seed, i)
        pair_rng, warp_rng, position_rng = (stream(entropy, number) for number in (_PAIR, _WARP, _POSITION))
        index = min(int(np.searchsorted(self._shares, pair_rng.random(), side="right")), len(self.pairs) - 1)
        feature = None
        if self._selector is not None:
            index, feature = self._selector.choose(stream(entropy, _CONTENT)) or (index, None)
        pair = self.pairs[index]
        warped = warp_rng.random() < settings.warp
        linear = self._draw(pair, settings.warp_args, warp_rng if warped else None)
        deformation = self._deform(pair, linear, settings, entropy)
        position = self._place(index, feature, linear, deformation, position_rng)
        if self._most_ignored < 1 and target is not None and not pair.absent:
            linear, deformation, position = self._read_accepted(
                index, feature, linear, deformation, position, position_rng, target, mask
            )
            target = None  # is filled
        matrix = translated(linear, position)
        self.reader.read(pair, matrix, raw, target, mask, self._scratch(), deformation)
        read = perf_counter()
        settings.disturb(raw, entropy, _GREY, **self.reader.scaled(index))
        self.reader.counters.mine().made(1, begin, read, perf_counter())
        return index, position, matrix, deformation

    def _draw(self, pair: Pair, warp: Warp, rng: np.random.Generator | None) -> npt.NDArray[np.float64]:
        if rng is None:
            matrix = np.eye(4)
            if not warp.sample_aniso:
                matrix[0, 0] = 1 / warp.anisotropy
            return matrix
        return warp.draw(rng, self.geometry.patch_shape, self._fits(pair))

    def _deform(
        self, pair: Pair, matrix: npt.NDArray[np.float64], settings: AugmentSettings, entropy: tuple[int, int]
    ) -> Deformation | None:
        """Draw a deformation and weaken it until there is room for it: beside the largest warp there may be none."""
        drawn = settings.deform(entropy, self.geometry.patch_shape)
        if drawn is None:
            return None
        fits = self._fits(pair)
        weakened = (drawn.scaled(strength) for strength in _STRENGTHS)
        return next((one for one in weakened if fits(matrix, one)), None)

    def _fits(self, pair: Pair) -> Callable[..., bool]:
        size, region = _within_context(pair)

        def fits(matrix: npt.NDArray[np.float64], deformation: Deformation | None = None) -> bool:
            try:
                positions(matrix, self.geometry, size, region, deformation)
            except DataError:
                self.reader.counters.mine().redraws += 1
                return False
            return True

        return fits

    def _place(
        self,
        index: int,
        feature: int | None,
        matrix: npt.NDArray[np.float64],
        deformation: Deformation | None,
        rng: np.random.Generator,
    ) -> Vec3:
        """Draw a translation, anywhere or such that the target holds a voxel of a class, see `ContentMap.draw`."""
        if feature is not None:
            return self._place_around(index, feature, matrix, deformation, rng)
        pair = self.pairs[index]
        size, region = _within_context(pair)
        try:
            z, y, x = place(matrix, self.geometry, size, rng, region, deformation)
        except DataError as error:
            raise DataError(f"pair {pair.name}: {error}") from error
        lo = pair.context[0]
        return int(z) + lo[0], int(y) + lo[1], int(x) + lo[2]

    def _place_around(
        self,
        index: int,
        feature: int,
        matrix: npt.NDArray[np.float64],
        deformation: Deformation | None,
        rng: np.random.Generator,
    ) -> Vec3:
        assert self._selector is not None
        pair, geometry = self.pairs[index], self.geometry
        size, region = _within_context(pair)
        first, last = np.add(positions(matrix, geometry, size, region, deformation), pair.context[0])
        of_target = target_matrix(matrix, geometry)
        for _ in range(_ANCHORS):
            voxel = self._selector.maps[index].draw(rng, feature)
            anchor = rng.integers(geometry.target_shape)
            moved = deformation.of_target(geometry).at(anchor) if deformation else np.zeros(3)
            at = of_target @ (*(anchor + moved), 1.0)
            position = np.clip(np.rint(voxel - at[:3] / at[3]).astype(np.int64), first, last)
            # At the rim of a volume there are voxels that a turned patch can't hold.
            inside = np.linalg.inv(translated(of_target, position)) @ (*voxel, 1.0)
            inside = inside[:3] / inside[3] - moved
            if (inside > -0.5).all() and (inside < np.subtract(geometry.target_shape, 0.5)).all():
                break
        z, y, x = position.tolist()
        return z, y, x

    def _read_accepted(
        self,
        index: int,
        feature: int | None,
        linear: npt.NDArray[np.float64],
        deformation: Deformation | None,
        position: Vec3,
        rng: np.random.Generator,
        target: npt.NDArray[Any],
        mask: npt.NDArray[np.bool_] | None,
    ) -> tuple[npt.NDArray[np.float64], Deformation | None, Vec3]:
        """Return where enough of an example counts, its target being read: as drawn, or un-warped at a known place."""
        pair = self.pairs[index]
        for k in range(_TRIES):
            if k:
                position = self._place(index, feature if k < _ANYWHERE else -1, linear, deformation, rng)
            if self._counts_enough(pair, translated(linear, position), deformation, target, mask):
                return linear, deformation, position
            self.reader.counters.mine().rejected += 1
        position = self._known[index][int(rng.integers(len(self._known[index])))]
        self._counts_enough(pair, translated(np.eye(4), position), None, target, mask)
        return np.eye(4), None, position

    def _counts_enough(
        self,
        pair: Pair,
        matrix: npt.NDArray[np.float64],
        deformation: Deformation | None,
        target: npt.NDArray[Any],
        mask: npt.NDArray[np.bool_] | None,
    ) -> bool:
        self.reader.read_target(pair, matrix, target, mask, self._scratch(), deformation)
        return counted_share(target, mask) >= 1 - self._most_ignored

    def _known_places(self, index: int) -> list[Vec3]:
        """Return places of un-warped patches of which enough counts."""
        pair, rng = self.pairs[index], stream((self.seed, 2**32 + index), _CONTENT)
        _, target, mask = self.reader.empty(1)
        assert target is not None
        found: list[Vec3] = []
        best = 0.0
        for _ in range(8 * _KNOWN_PLACES):
            matrix = np.eye(4)
            position = self._place_around(index, -1, matrix, None, rng)
            one = None if mask is None else mask[0]
            if self._counts_enough(pair, translated(matrix, position), None, target[0], one):
                found.append(position)
                if len(found) == _KNOWN_PLACES:
                    break
            best = max(best, counted_share(target[0], one))
        if not found:
            raise DataError(
                f"pair {pair.name}: most_ignored={self._most_ignored:g}, but of {8 * _KNOWN_PLACES} patches around "
                f"voxels that count none has less than {1 - best:.3g} of its {self.geometry.target_shape} target "
                "voxels ignored; allow more, or use a smaller patch."
            )
        return found

    def _scratch(self) -> Scratch:
        if not hasattr(self._local, "scratch"):
            self._local.scratch = Scratch()
        scratch: Scratch = self._local.scratch
        return scratch


def _within_context(pair: Pair) -> tuple[list[int], tuple[list[int], list[int]]]:
    """Return the size of the readable box and the target region counted from its corner."""
    lo, hi = np.asarray(pair.context)
    region = np.asarray(pair.region) - lo
    return (hi - lo).tolist(), (region[0].tolist(), region[1].tolist())
