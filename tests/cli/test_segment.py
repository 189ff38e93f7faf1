"""``elektronn segment``: from a prediction to scored segments."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from elektronn_tui.cli import main
from elektronn_tui.data import boundaries, smear_boundaries
from elektronn_tui.data.output import write_blocks


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where there are true ids of eight boxes, and a prediction of their boundaries as bytes."""
    ids = np.kron(np.arange(1, 9).reshape(2, 2, 2), np.ones((12, 24, 24), np.int64)).astype(np.uint32)
    walls = (smear_boundaries(boundaries(ids)) * 255).astype(np.uint8)
    both = np.stack([255 - walls, walls])
    place = {"voxel_size": (10, 10, 10), "offset": (0, 0, 0)}
    write_blocks(tmp_path / "truth.h5", "ids", (1, *ids.shape), np.uint32, [((0, 0, 0), ids[None])], **place)  # type: ignore[arg-type]
    write_blocks(tmp_path / "walls.h5", "prediction", both.shape, np.uint8, [((0, 0, 0), both)], **place)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("method", ["watershed", "components"])
def test_a_prediction_becomes_segments_that_score_well(
    folder: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", "walls.h5", "out.h5", "--method", method, "--block", "16,32,32", "--min-size", "20"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("out.h5: 0.0553 MVoxel in")
    assert main(["score", "out.h5", "truth.h5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    pieces = 1 if method == "watershed" else 2  # components leave boundaries out
    assert [one["pieces"] for one in found["objects"]] == [pieces] * 8
    assert (found["scores"]["adapted_rand_error"] < 0.01) == (method == "watershed")


def test_progress_is_lines_of_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "walls.h5", "out.h5:deep/ids", "--seed-distance", "20", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["event"] == "done"
    assert lines[-1]["output"] == str(folder / "out.h5")
    with h5py.File("out.h5") as file:
        assert dict(file["deep/ids"].attrs)["seed_distance"] == 20
        assert file["deep/ids"][()].max() == 8


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["walls.h5", "walls.h5"], 1, "walls.h5 exists already; give another output, or --force"),
        (["walls.h5", "out.tif"], 1, "an output is an HDF5 file or a Zarr store"),
        (["walls.h5", "out.h5", "--method", "mutex"], 1, "the mutex watershed needs affinities"),
        (["walls.h5", "out.h5", "--method", "components", "--h", "3"], 1, "h is no setting of components"),
        (["walls.h5", "out.h5", "--block", "3,4"], 2, "3,4: three whole numbers with commas are needed"),
        (["walls.h5", "out.h5", "--offsets=1,0,0;0,b,0"], 2, "0,b,0: three whole numbers"),
        (["walls.h5", "out.h5", "--memory", "0"], 2, "--memory 0: more than 0 GiB"),
        (["walls.h5", "out.h5", "--threshold", "2"], 1, "threshold=2.0; a number from 0 to 1"),
        (["nowhere.h5", "out.h5"], 1, "nowhere.h5"),
        (["begun.h5", "out.h5"], 1, "begun.h5 is not complete: begun.h5.part is what there is of it"),
    ],
)
def test_what_cannot_be_segmented_is_one_line(
    folder: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "begun.h5.part").mkdir()
    assert main(["segment", *arguments]) == code
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (folder / "out.h5").exists()
