"""``elektronn data``: what is told of data, without a session."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny_experiment

from elektronn_tui.cli import main

# Settings with which data are made within a second or two.
SMALL = {
    "mnist": ["data.digits=40"],
    "vae": ["data.digits=40"],
    "piano": ["data.examples=40", "data.valid_examples=10"],
    "gru": ["data.examples=40", "data.valid_examples=10"],
    "lstm": ["data.examples=40", "data.valid_examples=10"],
    "affinities": ["data.demo_shape=24,112,112", "data.valid_slices=0"],
    "malis": ["data.demo_shape=24,112,112", "data.valid_slices=0"],
    "membranes": ["data.shape=24,100,100", "data.valid_slices=0"],
}

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    tiny_experiment.volume(tmp_path / "volume.h5")
    return tiny_experiment.write(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code = main(["data", *map(str, arguments)])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert said.err == ""
    return said.out


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    return json.loads(told(capsys, *arguments, "--json"))


def test_what_is_told_of_volumes(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, tiny, "--set", "data.voxel_size=30,10,10")
    train, valid = found["parts"]
    assert (train["part"], valid["part"]) == ("training", "validation")
    assert train["raw"]["name"].endswith("volume.h5:raw")
    assert train["raw"] | {"name": ""} == {
        "name": "", "shape": [16, 48, 48], "dtype": "uint8", "channels": 1, "voxel_size": [30, 10, 10], "offset": None,
    }  # fmt: skip
    with h5py.File(tiny.with_name("volume.h5")) as file:
        raw, labels = file["raw"][:12], file["labels"][:12]
    (values,) = train["values"]
    assert values["mean"] == pytest.approx(raw.mean())
    assert (values["seen"], values["missing"], values["percentiles"][-1]) == (1, 0, raw.max())
    assert sum(values["histogram"]) == raw.size
    (counts,) = train["labels"]
    assert counts["counts"] == {"0": int((labels == 0).sum()), "1": int((labels == 1).sum())}
    assert train["region"] == [[0, 0, 0], [12, 48, 48]]
    assert train["positions"] == 9 * 37 * 37
    assert found["network"] == {
        "patch": [4, 12, 12], "target": [2, 8, 8], "offsets": [1, 2, 2], "strides": [1, 1, 1],
    }  # fmt: skip
    assert found["classes"] == 2
    assert found["validation"] == 2
    assert found["scaling"]["mean"] == [pytest.approx(raw.mean(), rel=0.05)]
    assert found["augmentation"]["warp"] == 0.5
    assert found["stats"]["examples"] == 9
    assert [source["reads"] for source in found["stats"]["sources"]] == [9, 9]


def test_the_text_says_the_same(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, tiny)
    for piece in (
        "training: ",
        "volume.h5:raw  1 × 16×48×48 uint8",
        "none NaN or infinite",
        "its voxel 0 on raw (0, 0, 0)",
        "targets from (0, 0, 0) to (12, 48, 48)",
        "12321 positions, 100 % of the examples",
        "network     patch 4×12×12; target 2×8×8; offsets 1×2×2; strides 1×1×1; 2 classes",
        "validation  2 examples",
        "varied      warp 0.5, grey 0.5",
        "cost        9 examples; 18 reads of ",
    ):
        assert piece in text, piece
    assert re.search(r"labels   0: \d+ \([\d.]+ %\), 1: \d+ \([\d.]+ %\)\n", text)
    assert "of a sample" not in text
    assert len(text.splitlines()) < 40


def test_an_example_is_the_one_that_training_makes(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, third = (document(capsys, tiny, "--example", n)["example"] for n in (0, 3))
    assert first != third
    assert document(capsys, tiny, "--example", 3)["example"] == third
    raw, target = third["arrays"]
    assert (raw["name"], raw["shape"], raw["dtype"]) == ("raw", [1, 4, 12, 12], "float32")
    assert sum(target["shares"].values()) == pytest.approx(1)
    plain = document(capsys, tiny, "--example", 3, "--set", "warp=0", "--set", "grey=0")["example"]
    assert plain["arrays"] != third["arrays"]


def test_schedules_say_how_the_first_step_is_varied(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = "__import__('elektronn_tui').Values([(1, 0.25)])"
    tiny_experiment.write(tiny.parent, "steps=1_000_000", f"schedules={{'warp': {values}}}")
    assert document(capsys, tiny)["augmentation"]["warp"] == 0.25


def test_a_picture_is_drawn(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    picture = tiny.with_name("example.png")
    assert document(capsys, tiny, "-o", picture)["example"]["picture"] == str(picture)
    image = np.asarray(Image.open(picture))
    assert image.shape == (12 * 32 + 4 + 4 * 32, 2 * 12 * 32 + 4, 3)
    assert np.ptp(image.astype(int), axis=-1).max() > 20  # coloured by the target
    assert f"picture     {picture}" in told(capsys, tiny, "-o", picture)


def test_a_large_volume_is_sampled_and_never_loaded(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    from elektronn_tui.data import HDF5Source, summaries

    monkeypatch.setattr(summaries, "_BLOCK", (2, 8, 8))
    for name in ("summarise_values", "summarise_labels"):
        summary = getattr(summaries, name)
        monkeypatch.setitem(summary.__kwdefaults__ or {}, "most_voxels", 4000)
    read, sizes = HDF5Source.read, []

    def recording(self, lo, hi):
        sizes.append(int(np.prod(np.subtract(hi, lo))))
        return read(self, lo, hi)

    monkeypatch.setattr(HDF5Source, "read", recording)
    text = told(capsys, tiny)
    assert sizes
    assert text.count("(of a sample of ") >= 2


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.path=missing.h5", "tiny.py: data.path: there is no file "),
        ("data.raw_key=image", "volume.h5 has no dataset 'image'; it holds labels, raw."),
        ("data.valid_slices=16", "can't hold out 16 of 16"),
        ("stepps=1", "Did you mean 'steps'?"),
    ],
)
def test_bad_data_are_refused_in_one_line(
    tiny: Path, capsys: pytest.CaptureFixture[str], setting: str, said: str
) -> None:
    assert main(["data", str(tiny), "--set", setting]) == 1
    refusal = capsys.readouterr()
    assert refusal.out == ""
    (line,) = refusal.err.splitlines()
    assert line.startswith("elektronn: ")
    assert said in line


def test_nan_are_refused_with_their_voxel(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = np.zeros(tiny_experiment.SHAPE, np.float32)
    raw[3, 4, 5] = np.nan
    tiny_experiment.volume(tiny.with_name("volume.h5"), raw=raw)
    assert main(["data", str(tiny)]) == 1
    assert "voxel (3, 4, 5) (z, y, x) is NaN or infinite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--example", "-1"), 1, "example -1: examples are numbered from 0"),
        (("-o", "example.jpg"), 2, "the name of a picture ends in .png"),
        (("-o", "/proc/nowhere/x.png"), 1, "nowhere"),
    ],
)
def test_arguments_that_do_not_fit(tiny: Path, capsys: pytest.CaptureFixture[str], arguments, code, said) -> None:
    assert main(["data", str(tiny), *arguments]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", [*SMALL, "neuro3d_lite"])
def test_examples_of_the_zoo_can_be_looked_at(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [word for setting in SMALL.get(name, []) for word in ("--set", setting)]
    found = document(capsys, name, *settings)
    assert found["experiment"] == name
    assert found["parts"][0]["values"][0]["missing"] == 0
    assert found["parts"][0]["labels"] or name == "vae"
    assert found["example"]["arrays"][0]["name"] == "raw"


def test_sequences_are_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [word for setting in SMALL["gru"] for word in ("--set", setting)]
    assert main(["data", "gru", *settings, "-o", str(tmp_path / "x.png")]) == 1
    assert "there is nothing to draw" in capsys.readouterr().err
