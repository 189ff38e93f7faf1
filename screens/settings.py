"""What a person may set: ``$ELEKTRONN_HOME/settings.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from elektronn_tui.actions import KeySettingError
from elektronn_tui.errors import ElektronnError, did_you_mean
from elektronn_tui.keymap import KeyMap
from elektronn_tui.session import registry

__all__ = ["Settings", "SettingsError"]


class SettingsError(ElektronnError, ValueError):
    """The settings file can't be used: names file, field and value."""


@dataclass(frozen=True)
class Settings:
    """The settings, with their defaults.

    A file may look like this::

        theme = "elektronn-light"
        rate = 2.0

        [keys]
        pause = "P"
        detach = "Q, f10"
    """

    theme: str = "elektronn"
    """One of the themes that the command palette lists."""
    rate: float = 1.0
    """How often a second a session's state is shown anew."""
    mouse: bool = True
    """Whether the mouse works; without it the terminal's own selection does."""
    keys: KeyMap = field(default_factory=KeyMap)
    """Keys of actions, by their names in the help screen's table."""
    warning: str = ""
    """What is wrong with the file, empty for nothing."""

    @classmethod
    def load(cls, path: Path | None = None) -> Settings:
        """Read the settings; what can't be used is left at its default, and `warning` says so."""
        path = path or registry.home() / "settings.toml"
        try:
            return cls.parse(tomllib.loads(path.read_text()), path)
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, SettingsError) as error:
            return cls(warning=str(error) if isinstance(error, SettingsError) else f"{path}: {error}")

    @classmethod
    def parse(cls, values: Mapping[str, Any], path: Path) -> Settings:
        """Return the settings that a file's values describe.

        Raises
        ------
        SettingsError
            A name is not known or a value does not fit.
        """
        known = {f.name: f.type for f in fields(cls) if f.name != "warning"}
        chosen: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise SettingsError(f"{path}: there is no setting {name!r}.{did_you_mean(name, known)}")
            if name == "keys":
                if not isinstance(value, dict):
                    raise SettingsError(f'{path}: keys is a table: [keys], then action = "key"')
                try:
                    chosen["keys"] = KeyMap(value)
                except KeySettingError as error:
                    raise SettingsError(f"{path}: {error}") from error
            elif name == "rate":
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0.05 <= value <= 30:
                    raise SettingsError(f"{path}: rate is {value!r}; it must be a number from 0.05 to 30")
                chosen["rate"] = float(value)
            elif name == "mouse":
                if not isinstance(value, bool):
                    raise SettingsError(f"{path}: mouse is {value!r}; it must be true or false")
                chosen["mouse"] = value
            else:
                if not isinstance(value, str):
                    raise SettingsError(f"{path}: theme is {value!r}; it must be a theme's name")
                chosen["theme"] = value
        return cls(**chosen)
