"""``elektronn sizes`` and ``elektronn profile``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from elektronn_tui.cli import main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEKTRONN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ELEKTRONN_RUNTIME", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)


def test_sizes_of_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sizes", "unet3d", "--output", "28,60,44"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == [
        "axis",
        "patch",
        "output",
        "fov",
        "stride",
        "offset",
        "sizes",
        "near",
        "it",
        "that",
        "fit",
    ]
    assert lines[4].split()[:6] == ["y", "148", "60", "88", "1", "44"]
    assert "[148→60]" in lines[4]
    assert main(["sizes", "neuro3d", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["fov"], document["strides"]) == ([15, 105, 105], [2, 4, 4])
    assert {"axis": "z", "size": 23, "output": 5, "chosen": True} in document["sizes"]


def test_sizes_of_layers_that_do_not_exist_yet(capsys: pytest.CaptureFixture[str]) -> None:
    layers = ["--filters", "1,6,6", "4,6,6", "3,3,3", "--pools", "1,2,2", "2,2,2", "1,1,1"]
    assert main(["sizes", *layers, "--patch", "23,183,183", "--mfp"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split() == ["3", "7,39,39", "7,39,39", "9,27,27", "2,4,4"]
    assert lines[7].split()[:5] == ["y", "182", "156", "1", "13"]
    assert main(["sizes", "--filters", "3", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["fields"] == [3, 6]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sizes"], 2, "either a MODEL or --filters is needed"),
        (["sizes", "unet3d", "--filters", "3"], 2, "either a MODEL or --filters is needed"),
        (["sizes", "unet3d", "--patch", "a"], 2, "a: whole numbers with commas are needed"),
        (["sizes", "--filters", "3,3", "3"], 1, "values for 1 and for 2 axes"),
        (["sizes", "gru"], 1, "has no spatial axes"),
        (["sizes", "--filters", "4", "--center"], 1, "field of view 4 is even"),
        (["profile", "nonsense"], 1, "There is no model file, checkpoint, run or experiment nonsense"),
        (["profile", "mnist", "--time", "0"], 2, "numbers above 0"),
        (["profile", "mnist", "--csv", "nowhere/x.csv", "--search", "none"], 1, "nowhere/x.csv"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    err = [line for line in capsys.readouterr().err.splitlines() if "keep this machine busy" not in line]
    assert message in err[-1]
    assert len(err) == 1


def test_a_profile_tells_nodes_and_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "membranes", "--time", "10", "--memory", "0.1", "--csv", "nodes.csv"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("membranes, ")
    assert "threads, cpu; nodes in " in out
    for text in ("prediction, the fastest first:", "training, the fastest first:", "elektronn train membranes --set"):
        assert text in out
    with open(tmp_path / "nodes.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["name"] == "conv"
    assert all(float(row["forward"]) > 0 for row in rows)


def test_a_profile_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "mnist", "--time", "4", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["nodes"][0]["kind"] == "Conv"
    assert {trial["purpose"] for trial in document["trials"]} == {"training"}
    assert "prediction: " in captured.err  # why it can't be
