"""Which keys the actions have: the table's, or those of a person's settings."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from .actions import Action, KeySettingError, actions_for, find

__all__ = ["EATEN_KEYS", "KeyMap", "key_name", "key_shown"]

EATEN_KEYS = frozenset(
    {"ctrl+a", "ctrl+b", "ctrl+s", "ctrl+q", "ctrl+z", "shift+enter", "ctrl+enter"}
    | {f"alt+{digit}" for digit in range(10)}
)
"""Keys that tmux, screen, flow control or the terminal itself may keep for themselves."""

_NAMED = {
    "solidus": "slash",
    "reverse_solidus": "backslash",
    "commercial_at": "at",
    "hyphen_minus": "minus",
    "plus_sign": "plus",
    "low_line": "underscore",
}


def key_name(key: str) -> str:
    """Return the terminal's name of a key as it is typed: ``":"`` → ``"colon"``, ``"ctrl+p"`` → ``"ctrl+p"``."""
    *modifiers, last = key.rsplit("+", 1) if len(key) > 1 else [key]
    if len(last) == 1 and not last.isalnum():
        words = unicodedata.name(last).lower().replace("-", "_").replace(" ", "_")
        last = _NAMED.get(words, words)
    return "+".join([*modifiers, last])


def key_shown(key: str) -> str:
    """Return a key as footer and help show it: ``"ctrl+p"`` → ``"^p"``."""
    names = {"enter": "↵", "tab": "⇥", "shift+tab": "⇤", "escape": "esc"}
    names |= {"left": "←", "right": "→", "up": "↑", "down": "↓"}
    if key in names:
        return names[key]
    return "^" + key[5:] if key.startswith("ctrl+") and len(key) == 6 else key


@dataclass(frozen=True)
class KeyMap:
    """Which keys each action has: the table's, or those of the settings.

    Parameters
    ----------
    settings : mapping of str to str
        Action name to keys, several separated by blanks or commas.
    """

    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, keys in self.settings.items():
            find(name)
            if not isinstance(keys, str) or not _split(keys):
                raise KeySettingError(f'keys.{name}: {keys!r} is not a key; write it as it is typed, such as "p"')
            for key in _split(keys):
                if key in EATEN_KEYS:
                    raise KeySettingError(
                        f"keys.{name}: {key} never arrives: tmux, screen or the terminal keeps it for itself"
                    )
        for screen in ("session", "home"):
            taken: dict[str, str] = {}
            for action in actions_for(screen):
                for key in self.keys(action):
                    if key in taken:
                        raise KeySettingError(f"keys.{action.name}: {key} is already the key of {taken[key]}")
                    taken[key] = action.name

    def keys(self, action: Action) -> tuple[str, ...]:
        """Return the action's keys as they are typed, the one to show first."""
        return _split(self.settings[action.name]) if action.name in self.settings else action.keys

    def shown(self, action: Action) -> str:
        """Return the action's first key as footer and help show it."""
        return key_shown(self.keys(action)[0])


def _split(keys: str) -> tuple[str, ...]:
    if keys.strip() == ",":
        return (",",)
    return tuple(key for key in keys.replace(",", " ").split() if key)
