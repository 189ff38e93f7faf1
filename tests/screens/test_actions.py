"""The table of actions is whole, and everything that is made from it agrees with it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from textual.keys import _character_to_key

from elektronn_tui.actions import ACTIONS, KeySettingError, actions_for, find
from elektronn_tui.keymap import EATEN_KEYS, KeyMap, key_name, key_shown
from elektronn_tui.screens.help import help_text
from elektronn_tui.screens.home import HomeScreen
from elektronn_tui.screens.session import SessionScreen

SCREENS = {"session": SessionScreen, "home": HomeScreen}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_every_action_has_a_key_a_label_a_palette_entry_and_help(action) -> None:
    assert action.keys
    assert action.label
    assert action.palette
    assert action.help.rstrip().endswith(".")
    assert action.screens


def test_names_are_unique_and_keys_are_unique_on_each_screen() -> None:
    assert len({action.name for action in ACTIONS}) == len(ACTIONS)
    for screen in SCREENS:
        keys = [key for action in actions_for(screen) for key in action.keys]
        assert len(keys) == len(set(keys))


def test_no_default_key_is_eaten_on_its_way() -> None:
    keys = {key for action in ACTIONS for key in action.keys}
    assert not keys & EATEN_KEYS
    assert not any(key.startswith("alt+") for key in keys)


def test_every_action_can_be_reached_without_a_control_key() -> None:
    for action in ACTIONS:
        assert any(not key.startswith(("ctrl+", "shift+")) for key in action.keys) or action.name == "previous_pane"


@pytest.mark.parametrize("screen", SCREENS)
def test_bindings_are_those_of_the_table_and_lead_to_methods(screen: str) -> None:
    bound = {binding.id: binding for binding in SCREENS[screen].BINDINGS}
    assert set(bound) == {action.name for action in actions_for(screen)}
    for action in actions_for(screen):
        assert bound[action.name].key.split(",") == [key_name(key) for key in action.keys]
        method = action.action.split("(")[0]
        if "." not in method:
            assert hasattr(SCREENS[screen], f"action_{method}"), method


@pytest.mark.parametrize("screen", SCREENS)
def test_help_lists_every_action_with_its_keys(screen: str) -> None:
    text = help_text(screen, KeyMap(), 200).plain
    for action in actions_for(screen):
        assert action.palette in text
        assert action.help in text
        assert all(key_shown(key) in text for key in action.keys)


@pytest.mark.parametrize(
    "character", [":", "/", "[", "]", "?", ",", ".", "-", "+", "=", "_", "@", "\\", "#", "p", "S", "1"]
)
def test_key_names_are_those_of_the_terminal_library(character: str) -> None:
    assert key_name(character) == _character_to_key(character)


def test_settings_give_other_keys() -> None:
    keys = KeyMap({"pause": "P", "detach": "Q, f10"})
    assert keys.keys(find("pause")) == ("P",)
    assert keys.keys(find("detach")) == ("Q", "f10")
    assert keys.shown(find("save")) == "s"
    assert "  P" in help_text("session", keys).plain


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pauze": "P"}, "Did you mean 'pause'"),
        ({"pause": "ctrl+s"}, "never arrives"),
        ({"pause": ""}, "is not a key"),
        ({"pause": "e"}, "already the key"),
    ],
)
def test_settings_that_can_not_be_are_refused_with_the_reason(settings: dict[str, str], words: str) -> None:
    with pytest.raises(KeySettingError, match=words):
        KeyMap(settings)


def test_the_table_imports_no_textual() -> None:
    code = "import sys, elektronn_tui.actions, elektronn_tui.app; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
