"""What the README says can be done."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from elektronn_tui import Experiment
from elektronn_tui.actions import find
from elektronn_tui.cli import VERBS
from elektronn_tui.training.examples import examples

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_its_experiment_builds_a_network_that_fits():
    code, _ = blocks("python")
    names: dict[str, object] = {}
    exec(code, names)
    experiment = names["experiment"]
    assert isinstance(experiment, Experiment)
    model = experiment.model()
    model.test_run()
    assert model.prediction_node.shape.spatial_shape == (7, 10, 10)


def test_its_network_is_predicted_stored_and_rewritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, code = blocks("python")
    names: dict[str, object] = {}
    exec(code, names)
    assert names["every_voxel"].shape == (2, 172, 172)
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_its_zoo_is_complete():
    rows = re.findall(r"^\| ((?:`[a-z0-9_]+`(?:, )?)+) \|", README, re.MULTILINE)
    named = set(re.findall(r"[a-z0-9_]+", " ".join(rows)))
    assert set(examples()) <= named


def test_its_verbs_exist():
    code = [line for block in blocks("sh") for line in block.splitlines()] + re.findall(r"`([^`\n]*)`", README)
    used = {found[1] for line in code if (found := re.match(r"elektronn ([a-z]+)", line))}
    assert used
    assert used <= set(VERBS)


def test_its_zoo_names_exist():
    named = set(re.findall(r"elektronn (?:tui|new) ([a-z0-9]+)\b(?!\.py)", " ".join(blocks("sh")))) - {"mine"}
    assert named
    assert named <= set(examples())


def test_its_keys_are_those_of_the_actions():
    rows = re.findall(r"^\| ([^|]+) \| ((?:`[^`]+`(?:, )?)+) \|", README, re.MULTILINE)
    keys = {what: re.findall(r"`([^`]+)`", shown) for what, shown in rows}
    for what, action in (
        ("change a control", "edit"),
        ("Python at a step boundary", "console"),
        ("let the loop wait for the console", "hold"),
        ("leave (training goes on)", "detach"),
        ("end the session", "stop"),
    ):
        assert keys[what][0] in find(action).keys
    (settings,) = blocks("toml")
    for action in tomllib.loads(settings)["keys"]:
        find(action)
