from __future__ import annotations

import subprocess
import sys

import pytest

import elektronn_tui.data


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import elektronn_tui.data", {"numpy", "numba", "h5py", "torch", "skimage", "scipy"}),
        (
            "from elektronn_tui.data import Geometry, Pair, Prefetcher, Scaling, boundaries, split_region",
            {"numba", "h5py", "torch", "skimage", "scipy"},
        ),
        ("from elektronn_tui.data import HDF5Source; HDF5Source('v.h5', 'raw')", {"numba", "h5py", "torch", "skimage"}),
        ("from elektronn_tui.data import Patches, validation_examples", {"h5py", "torch", "skimage"}),
    ],
)
def test_importing_costs_only_what_is_used(statement: str, absent: set[str]) -> None:
    assert not loaded_after(statement) & absent


def test_every_public_name_is_there() -> None:
    for name in elektronn_tui.data.__all__:
        assert getattr(elektronn_tui.data, name) is not None
    assert set(elektronn_tui.data.__all__) <= set(dir(elektronn_tui.data))
    with pytest.raises(AttributeError, match="no attribute 'Patch'"):
        elektronn_tui.data.Patch  # noqa: B018
