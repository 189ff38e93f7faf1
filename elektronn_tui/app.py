"""The Textual application's door: shows something at once, then imports what takes time.

Importing this module imports no Textual, so that `run_app` can write its splash first.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elektronn_tui.screens.application import ElektronnApp
    from elektronn_tui.session.launch import Start
    from elektronn_tui.session.registry import SessionInfo

__all__ = ["ElektronnApp", "prepare_terminal", "run_app"]


def __getattr__(name: str) -> Any:
    if name == "ElektronnApp":
        from elektronn_tui.screens.application import ElektronnApp

        return ElektronnApp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def prepare_terminal() -> None:
    """Set what Textual reads when it is imported: no animations, few frames, 256 colours over ssh."""
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    os.environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")
    os.environ.setdefault("TEXTUAL_FPS", "30")
    if "SSH_CONNECTION" in os.environ:
        os.environ.setdefault("TEXTUAL_COLOR_SYSTEM", "256")


def _splash(what: str) -> None:
    if not sys.__stdout__ or not sys.__stdout__.isatty():
        return
    columns, lines = os.get_terminal_size(sys.__stdout__.fileno())
    text = f"elektronn   {what}"[: max(0, columns - 2)]
    column = max(1, (columns - len(text)) // 2)
    frame = f"\x1b[?1049h\x1b[?25l\x1b[2J\x1b[{max(1, lines // 2)};{column}H\x1b[1melektronn\x1b[0m{text[9:]}"
    os.write(sys.__stdout__.fileno(), frame.encode())


def run_app(
    target: SessionInfo | None = None,
    *,
    read_only: bool = False,
    rate: float | None = None,
    start: Start | None = None,
) -> int:
    """Show the application until the person leaves it.

    Parameters
    ----------
    target : SessionInfo, optional
        The session to show, running or past, as `registry.find` gives it. Without one the home screen opens.
    read_only : bool
        Attach without the right to change anything.
    rate : float, optional
        Frames of a session's state a second; the settings' (default 1) when not given.
    start : Start, optional
        How the target comes up, where this process started it.

    Returns
    -------
    int
        Exit code: 0 when the person left, 5 when the application broke down.

    Raises
    ------
    LaunchError
        The session failed before its first step.
    """
    prepare_terminal()
    _splash(f"attaching to {target.name} ..." if target is not None else "looking for sessions ...")
    from elektronn_tui.screens.application import ElektronnApp
    from elektronn_tui.screens.settings import Settings

    app = ElektronnApp(target, read_only=read_only, rate=rate, start=start, settings=Settings.load())
    app.run(mouse=app.settings.mouse)
    if app.failure is not None:
        raise app.failure
    if app.farewell:
        sys.stdout.write(app.farewell + "\n")
    return app.return_code or 0
