"""The settings file: what it may say, and what is said when it can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from elektronn_tui.actions import find
from elektronn_tui.screens.settings import Settings


def settings(home: Path, text: str) -> Settings:
    (home / "settings.toml").write_text(text)
    return Settings.load()


def test_without_a_file_the_defaults_hold(home: Path) -> None:
    assert Settings.load() == Settings()


def test_a_file_sets_theme_rate_mouse_and_keys(home: Path) -> None:
    read = settings(home, 'theme = "elektronn-light"\nrate = 2\nmouse = false\n[keys]\npause = "P"\n')
    assert (read.theme, read.rate, read.mouse, read.warning) == ("elektronn-light", 2.0, False, "")
    assert read.keys.keys(find("pause")) == ("P",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rat = 2", "Did you mean 'rate'"),
        ("rate = 99", "from 0.05 to 30"),
        ("rate = true", "must be a number"),
        ('mouse = "no"', "true or false"),
        ("theme = 3", "a theme's name"),
        ("keys = 3", "keys is a table"),
        ('[keys]\npauze = "P"', "Did you mean 'pause'"),
        ('[keys]\npause = "ctrl+z"', "never arrives"),
        ("rate = [", "settings.toml"),
    ],
)
def test_what_can_not_be_used_is_said_and_the_defaults_hold(home: Path, text: str, words: str) -> None:
    read = settings(home, text)
    assert words in read.warning
    assert str(home) in read.warning
    assert read.keys == Settings().keys
    assert read.rate == 1.0
