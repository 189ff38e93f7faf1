"""``elektronn score``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from elektronn_tui.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    gt = np.repeat(np.arange(1, 5, dtype=np.uint32), 5)[None, None].repeat(3, 0).repeat(8, 1)
    np.save("truth.npy", gt)
    np.save("merged.npy", np.minimum(gt, 3))
    np.save("part.npy", gt[1:])
    return tmp_path


def test_scores_and_the_worst_objects_are_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "merged.npy", "truth.npy", "--objects", "2", "--csv", "all.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["VOI split            0.0000 bits", "VOI merge            0.5000 bits", lines[2]]
    assert "compared             480 labelled voxels of the truth from (0, 0, 0) to (3, 8, 20)" in lines
    assert lines[-3].split() == ["3", "120", "0.500", "3", "1", "1"]
    assert lines[-1] == "and 2 more; --csv FILE has all"
    assert (folder / "all.csv").read_text().splitlines()[:2] == [
        "id,voxels,iou,best,pieces,merged_with",
        "3,120,0.5,3,1,1",
    ]


def test_json_has_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "part.npy", "truth.npy", "--offset=1,0,0", "--ignore", "2,4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["scores"]["voi"] == 0
    assert document["box"] == {"lo": [1, 0, 0], "hi": [3, 8, 20]}
    assert [one["id"] for one in document["objects"]] == [1, 3]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["part.npy", "truth.npy"], 1, "no offset says how they lie"),
        (["part.npy", "truth.npy", "--offset", "1,2"], 2, "three numbers are needed"),
        (["part.npy", "truth.npy", "--offset", "a,b,c"], 2, "whole numbers with commas"),
        (["merged.npy", "truth.npy", "--objects", "-1"], 2, "a number from 0 on"),
        (["none.npy", "truth.npy"], 1, "none.npy doesn't exist"),
        (["merged.npy", "truth.npy", "--csv", "no/all.csv"], 1, "no/all.csv can't be written"),
    ],
)
def test_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert main(["score", *arguments]) == code
    assert message in capsys.readouterr().err
