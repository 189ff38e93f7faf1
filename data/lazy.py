"""Which classes were labelled in a volume, as label files of ELEKTRONN2 say it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from elektronn_tui.errors import DataError

__all__ = ["lazy_labels"]

KEY = "ll_mask"


def lazy_labels(path: str | Path) -> tuple[tuple[int, ...] | None, tuple[int, ...]]:
    """Return which classes were labelled, and which are known to be absent, by the dataset ``ll_mask`` of an HDF5 file.

    It has two rows of an entry for each class: 1 where the class was labelled, and 1 where it is absent.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    (labelled, absent)
        As of `elektronn_tui.data.Pair`; ``(None, ())`` where there is no such dataset.

    Raises
    ------
    DataError
        The file can't be read, or the dataset isn't two rows of 0 and 1.
    """
    import h5py

    try:
        with h5py.File(Path(path).expanduser(), "r") as file:
            if KEY not in file:
                return None, ()
            rows = np.asarray(file[KEY])
    except OSError as error:
        raise DataError(f"{path}: its dataset {KEY} can't be read: {error}.") from error
    if rows.ndim != 2 or len(rows) != 2 or not np.isin(rows, (0, 1)).all():
        raise DataError(
            f"{path}:{KEY} has shape {rows.shape}; two rows of 0 and 1 are needed: which classes were labelled, and "
            "which are absent."
        )
    labelled, absent = (tuple(np.flatnonzero(row).tolist()) for row in rows)
    return None if len(labelled) == rows.shape[1] else labelled, absent
