"""``elektronn graph``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elektronn_tui.cli import main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEKTRONN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ELEKTRONN_RUNTIME", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)


def test_a_network_is_drawn_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "unet3d"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "unet3d"
    assert "19 069 058 trainable parameters" in lines[1]
    assert sum("●" in line for line in lines) == 33


def test_or_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ending in ("svg", "html", "dot", "txt"):
        assert main(["graph", "membranes", "-o", f"net.{ending}"]) == 0
        assert (tmp_path / f"net.{ending}").stat().st_size > 500
    assert capsys.readouterr().out.startswith("net.svg: 25 nodes, 143 546 trainable parameters")


def test_or_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "mnist", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["name"], document["params"]) == ("mnist", 142_366)
    assert document["nodes"][1]["kind"] == "Conv"
    assert [n["name"] for n in document["nodes"] if n["role"] == "input"] == [document["nodes"][0]["name"]]
    assert sum(n["share"] for n in document["nodes"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["unet3d", "-o", "net.pdf"], 2, "a drawing is FILE.svg, FILE.html, FILE.dot or FILE.txt"),
        (["nonsense"], 1, "There is no model file, checkpoint, run or experiment nonsense"),
        (["unet3d", "-o", "nowhere/net.svg"], 1, "nowhere/net.svg"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["graph", *arguments]) == code
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
