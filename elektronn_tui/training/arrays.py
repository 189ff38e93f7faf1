"""Examples in memory: images with a label, vectors, sequences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elektronn_tui.errors import DataError, ExperimentError, did_you_mean

from .settings import setting, settings

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Arrays", "ImageData", "check_file", "read_dataset"]


@dataclass(frozen=True, eq=False)
class Arrays:
    """Opened examples that lie in memory. A class of one's own may be an experiment's data if ``open()`` returns this.

    The first axis of each array counts examples; the others are those of the network's input (or target) without b,
    in the same order. Where the network has one feature the f axis may be left out: images (n, y, x) fit an input
    ``b,f,y,x`` and labels (n,) a target ``b,f``. Sequences (n, r, f) fit an input ``r,b,f``.

    Attributes
    ----------
    train : ndarray
        Inputs, integers or floats. What an input of floats is fed is scaled as `Experiment.scaling` says: by mean and
        deviation of each feature, or integers to 0 to 1 and floats not at all. An input of integers gets them as they
        are.
    train_target : ndarray or None
        Class ids for a target of integers (negative ones don't count), or values; None for networks without a target.
    valid, valid_target : ndarray or None
        The same for validation.
    shift : int
        Largest random displacement of training images in pixels, at start: the control ``shift``. Images larger than
        the network's input are cropped to it, around the middle.
    name : str
        What messages call them.
    """

    train: npt.NDArray[Any]
    train_target: npt.NDArray[Any] | None = None
    valid: npt.NDArray[Any] | None = None
    valid_target: npt.NDArray[Any] | None = None
    shift: int = 0
    name: str = "data"

    def __post_init__(self) -> None:
        for field in ("train", "train_target", "valid", "valid_target"):
            value = getattr(self, field)
            if value is not None or field == "train":
                object.__setattr__(self, field, np.asarray(value))


@settings("data.")
class ImageData:
    """Images with a class each, from an HDF5 file; without a file, handwritten-looking digits that are drawn for it."""

    path: str | None = setting(default=None, type="path", optional=True, help="HDF5 file with images and labels")
    image_key: str = setting(default="images", type="text", help="dataset (n, y, x) or (n, channel, y, x) in `path`")
    label_key: str | None = setting(
        default="labels",
        type="text",
        optional=True,
        help="dataset (n,) of class ids from 0; negative ones don't count; none: no labels, for autoencoders",
    )
    digits: int = setting(
        default=10_000, type="int", minimum=10, help="how many digits are drawn where there is no file"
    )
    valid_fraction: float = setting(
        default=0.2, type="float", minimum=0, maximum=0.9, help="of the images, held out at random; 0 for none"
    )
    shift: int = setting(
        default=0, type="int", minimum=0, maximum=4096, help="how far images are displaced at random, in pixels"
    )
    seed: int = setting(default=1, type="int", minimum=0, help="of the choice of what is held out, and of the digits")

    def check_files(self) -> None:
        """Refuse what can be seen to fail without opening a file.

        Raises
        ------
        ExperimentError
            The file is missing.
        """
        check_file(self.path, "images.h5")

    def open(self) -> Arrays:
        """Read or draw the images, and hold some out.

        Raises
        ------
        DataError
            The file can't be read, or holds something else: says what.
        """
        if self.path is None:
            from elektronn_tui.data import draw_digits

            images, labels = draw_digits(self.digits, seed=self.seed)
            return self._split(images, labels if self.label_key else None, "digits")
        images = read_dataset(self.path, self.image_key)
        if images.ndim not in (3, 4) or images.dtype.kind not in "iuf":
            raise DataError(
                f"{self.path}: {self.image_key} has the shape {images.shape} and holds {images.dtype}; numbers of the "
                "shape (n, y, x) or (n, channel, y, x) are needed"
            )
        if self.label_key is None:
            return self._split(images, None, self.path)
        labels = read_dataset(self.path, self.label_key)
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise DataError(
                f"{self.path}: {self.label_key} has the shape {labels.shape} and holds {labels.dtype}; integers of "
                f"the shape {images.shape[:1]} are needed, one for each of {self.image_key}"
            )
        return self._split(images, labels, self.path)

    def _split(self, images: npt.NDArray[Any], labels: npt.NDArray[Any] | None, name: str) -> Arrays:
        # At random: files may be sorted by class.
        order = np.random.default_rng(self.seed).permutation(len(images))
        n_valid = round(self.valid_fraction * len(images))
        if (n_valid == 0 and self.valid_fraction > 0) or n_valid == len(images):
            raise DataError(f"data.valid_fraction: {self.valid_fraction} of {len(images)} images can't be held out")
        valid, train = np.sort(order[:n_valid]), np.sort(order[n_valid:])
        return Arrays(
            images[train],
            None if labels is None else labels[train],
            images[valid] if n_valid else None,
            None if labels is None or not n_valid else labels[valid],
            shift=self.shift,
            name=name,
        )


def check_file(path: str | None, example: str, *, setting: str = "data.path") -> None:
    """Refuse a path where there is no file; None is fine.

    Raises
    ------
    ExperimentError
    """
    if path is None:
        return
    file = Path(path).expanduser()
    if file.is_dir():
        raise ExperimentError(f"{setting}: {file} is a folder; it must be a file, such as {example}")
    if not file.exists():
        raise ExperimentError(f"{setting}: there is no file {file.absolute()}")


def read_dataset(path: str, key: str) -> npt.NDArray[Any]:
    """Return a dataset of an HDF5 file.

    Raises
    ------
    DataError
        The file can't be read, or has no such dataset: says which there are.
    """
    import h5py

    try:
        with h5py.File(Path(path).expanduser(), "r") as file:
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            if key.strip("/") not in names:
                listing = ", ".join(names) or "no dataset at all"
                raise DataError(f"{path} has no dataset {key!r}; it holds {listing}.{did_you_mean(key, names)}")
            return np.asarray(file[key][()])
    except OSError as error:
        reason = str(error) if h5py.is_hdf5(path) else "it is no HDF5 file"
        raise DataError(f"{path} can't be read: {reason}") from error
