"""The application: which screen is shown, with which theme and keys."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.driver import Driver
from textual.events import Event, Key, Paste
from textual.screen import Screen

from elektronn_tui.actions import Action, find
from elektronn_tui.keymap import key_name
from elektronn_tui.session.protocol import LIVE_STATES
from elektronn_tui.session.registry import SessionInfo

from .settings import Settings
from .themes import DARK, LIGHT

if TYPE_CHECKING:
    from elektronn_tui.session.errors import LaunchError
    from elektronn_tui.session.launch import Start

__all__ = ["ElektronnApp"]


def _driver() -> type[Driver] | None:
    if sys.platform == "win32":
        return None
    from .driver import ChangedCellsDriver

    return ChangedCellsDriver


def _commands() -> type[Provider]:
    from .commands import ActionCommands

    return ActionCommands


class ElektronnApp(App[None]):
    """The application.

    Parameters
    ----------
    target : SessionInfo, optional
        The session to show; the home screen without one.
    read_only : bool
        Attach without the right to change anything.
    rate : float, optional
        Deltas a second; the settings' when not given.
    start : Start, optional
        How the target comes up, where this process started it.

    Attributes
    ----------
    failure : LaunchError or None
        Why the session that was to be shown never ran; the application leaves then.
    """

    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {_commands}
    CSS_PATH = Path(__file__).with_name("session.tcss")
    COMMAND_PALETTE_BINDING = "ctrl+p"
    TITLE = "elektronn"
    DEFAULT_MODE = "screen-0"
    BINDINGS: ClassVar[list[BindingType]] = [
        # Textual would quit on it at once; flow control may keep it.
        Binding("ctrl+q", "nothing", show=False, priority=True, system=True),
        Binding("ctrl+c", "interrupt_or_hint", show=False, system=True),
    ]

    def __init__(
        self,
        target: SessionInfo | None = None,
        *,
        read_only: bool = False,
        rate: float | None = None,
        start: Start | None = None,
        settings: Settings | None = None,
        driver_class: type[Driver] | None = None,
    ) -> None:
        super().__init__(driver_class=driver_class or _driver())
        self.settings = settings or Settings()
        self.target = target
        self.read_only = read_only
        self.rate = rate if rate is not None else self.settings.rate
        self.farewell = ""
        self._kept: list[Key | Paste] | None = None
        self.failure: LaunchError | None = None
        self._start = start
        self._shown_screens = 0
        self.add_mode(self.DEFAULT_MODE, self._first_screen)
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        if self.settings.theme in self.available_themes:
            self.theme = self.settings.theme
        else:
            self.theme = DARK.name
        self.set_keymap(
            {name: ",".join(map(key_name, self.settings.keys.keys(action))) for name, action in self._mapped().items()}
        )

    def _mapped(self) -> dict[str, Action]:
        return {name: find(name) for name in self.settings.keys.settings}

    def on_mount(self) -> None:
        """Say what is wrong with the settings, and hear of a session that does not come up."""
        if self.settings.warning:
            self.notify(self.settings.warning, severity="warning", timeout=15, markup=False)
        if self._start is not None:
            loop = asyncio.get_running_loop()

            def tell(failure: LaunchError) -> None:
                with contextlib.suppress(RuntimeError):  # the application was left
                    loop.call_soon_threadsafe(self._leave_for, failure)

            self._start.when_failed(tell)

    # --- keys

    async def on_event(self, event: Event) -> None:
        """Keep what is typed while the widget that it is meant for is being made."""
        if self._kept is not None and isinstance(event, Key | Paste):
            # A new one: this one may have been to the widget that had the focus before, and would not go to another.
            self._kept.append(Key(event.key, event.character) if isinstance(event, Key) else Paste(event.text))
            return
        await super().on_event(event)

    def keep_keys(self) -> None:
        """Hold keys back until `release_keys`: letters for a prompt must not act as commands meanwhile."""
        if self._kept is None:
            self._kept = []

    def release_keys(self) -> None:
        """Let the keys that were held back go to the widget that has the focus now."""
        kept, self._kept = self._kept or (), None
        for event in kept:
            self.post_message(event)

    # --- screens

    def session_screen(self, info: SessionInfo, read_only: bool = False) -> Screen[None]:
        """Return the screen of a session: live where it runs and can be reached, else from its run directory."""
        from .finished import FinishedLink
        from .session import SessionScreen

        keys = self.settings.keys
        if info.state in LIVE_STATES and info.socket:
            return SessionScreen(info, read_only=read_only, rate=self.rate, keys=keys)
        return SessionScreen(info, keys=keys, make_link=lambda changed: FinishedLink(info, changed))

    def home_screen(self) -> Screen[None]:
        """Return the list of sessions."""
        from .home import HomeScreen

        return HomeScreen(self.settings.keys)

    def show_session(self, info: SessionInfo, *, read_only: bool = False) -> None:
        """Show a session in place of what is shown."""
        self._show(lambda: self.session_screen(info, read_only))

    def show_home(self) -> None:
        """Show the list of sessions in place of what is shown."""
        self._show(self.home_screen)

    def _first_screen(self) -> Screen[None]:
        return self.session_screen(self.target, self.read_only) if self.target is not None else self.home_screen()

    def _show(self, screen: Callable[[], Screen[None]]) -> None:
        """Put a screen, and dialogs on it, in place of what is shown: each has a mode of its own."""
        before = self.current_mode
        self._shown_screens += 1
        name = f"screen-{self._shown_screens}"
        self.add_mode(name, screen)
        self.switch_mode(name)
        self.remove_mode(before)

    def show_help(self, screen: str) -> None:
        """Show the keys of a screen."""
        from .help import HelpScreen

        self.push_screen(HelpScreen(screen, self.settings.keys))

    # --- application

    def leave(self, running: str = "") -> None:
        """Leave the application; what runs goes on."""
        if running:
            self.farewell = f"detached from {running}; it goes on. Come back: elektronn attach {running}"
        self.exit()

    def never_ran(self, info: SessionInfo, failure: LaunchError) -> None:
        """Leave, when the session that this was opened on failed before its first step: there is nothing to see."""
        opened_on_it = self.target is not None and self.target.id == info.id
        if opened_on_it and self._start is None:  # else the worker itself says it, and more surely
            self._leave_for(failure)

    def _leave_for(self, failure: LaunchError) -> None:
        if self._shown_screens:
            self.notify(str(failure), severity="error", timeout=15, markup=False)
        else:
            self.failure = failure
            self.exit()

    def redraw(self) -> None:
        """Draw every cell anew, whatever the terminal shows."""
        redraw = getattr(self._driver, "redraw", None)
        if redraw is not None:
            redraw()
        self.screen.refresh(layout=True)

    def action_nothing(self) -> None:
        """Let a key do nothing."""

    def action_interrupt_or_hint(self) -> None:
        """Say how to leave, where nothing else takes Ctrl-C."""
        self.notify("q leaves, and lets the training go on", timeout=3)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Give the palette none of Textual's own commands: it is filled from the action table."""
        return ()
