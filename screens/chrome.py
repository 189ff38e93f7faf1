"""The lines around the panes: status on top, a banner when something waits for a person, keys or a message below."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import RenderResult
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget

from elektronn_tui.actions import actions_for, find
from elektronn_tui.keymap import KeyMap

from .jobs import job_pieces
from .state import SessionState
from .wording import count, duration, number, size, state_symbol

__all__ = ["STYLES", "Banner", "KeyLine", "StatusLine", "TabLine", "banner_text"]

STYLES = {
    "": "",
    "dim": "$text-muted",
    "accent": "$accent",
    "good": "$success",
    "warn": "$warning",
    "bad": "$error bold",
    "strong": "bold",
    "key": "$foreground bold",
}
"""Theme styles of the roles that pieces of a line have."""

Piece = tuple[str, str]
MESSAGE_SECONDS = 10.0
TOGETHER = {"slice_down": (" ", "slice_up"), "pane_plots": ("-", "pane_console")}
"""Actions whose keys the footer shows as one, with the last of them."""


class Line(Widget):
    """A line made of pieces of text with roles; repainted only when it changes."""

    DEFAULT_CSS = "Line { height: 1; width: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._pieces: tuple[Piece, ...] = ()

    @property
    def text(self) -> str:
        """What it says."""
        return "".join(text for text, _ in self._pieces)

    def show(self, pieces: Sequence[Piece]) -> None:
        """Say something else."""
        if tuple(pieces) != self._pieces:
            self._pieces = tuple(pieces)
            self.refresh(layout=self.styles.height is not None and self.styles.height.is_auto)

    def render(self) -> RenderResult:
        """Draw the line."""
        return Content.assemble(*((text, STYLES.get(role, role)) for text, role in self._pieces))


class StatusLine(Line):
    """Name, state, progress and speed of a session, as much as fits."""

    DEFAULT_CSS = "StatusLine { background: $panel; }"

    def __init__(self) -> None:
        super().__init__(id="status")
        self._shown: tuple[SessionState, str, bool] | None = None

    def take(self, state: SessionState, name: str, read_only: bool) -> None:
        """Show a state."""
        self._shown = (state, name, read_only)
        self._fit()

    def on_resize(self) -> None:
        """Show as much as fits now."""
        self._fit()

    def _fit(self) -> None:
        if self._shown is None or not self.size.width:
            return
        state, name, read_only = self._shown
        status = state.status
        symbol, role = state_symbol(status.state)
        word: str = status.state
        if state.link == "lost":
            symbol, role, word = "○", "bad", f"{status.state}?"
        elif state.link == "connecting":
            symbol, role, word = "◌", "dim", "connecting"
        steps = f" / {count(status.steps)}" if status.steps else ""
        lead: list[tuple[int, Sequence[Piece]]] = [
            (5, (("elektronn", "dim"),)),
            (0, ((name, "strong"),)),
            (0, ((f"{symbol} {word}", role), (f" · {status.phase}" if status.phase else "", "dim"))),
            (1, (("step ", "dim"), (count(status.step), ""), (steps, "dim"))),
        ]
        if state.live and state.link != "connecting":
            lead += [
                (2, ((f"{number(round(status.rate, 2))}", ""), (" it/s", "dim"))),
                *_throughput(state),
                (7, (("data ", "dim"), (f"{100 * status.data_wait:.0f} %", ""))),
            ]
            if status.eta is not None:
                lead.append((3, (("eta ", "dim"), (duration(status.eta), ""))))
        else:
            lead.append((2, (("trained ", "dim"), (duration(status.training_time), ""))))
        jobs = job_pieces(state.jobs.values()) if state.live else ()
        if jobs:
            lead.append((1, jobs))
        tail: list[tuple[int, Sequence[Piece]]] = []
        if state.gap:
            tail.append((4, ((f"⋯ {size(state.gap)} skipped", "warn"),)))
        if state.live and state.link == "live":
            tail.append((8, ((f"⇄ {status.clients} client{'s' * (status.clients != 1)}", "dim"),)))
        if read_only:
            tail.append((0, (("read-only", "warn"),)))
        for least in range(9, -1, -1):
            left = [pieces for rank, pieces in lead if rank <= least]
            right = [pieces for rank, pieces in tail if rank <= least]
            pieces = [(" ", ""), *(piece for group in left for piece in (*group, ("   ", "")))]
            end = [piece for group in right for piece in (*group, (" ", ""))]
            if not end and pieces:
                pieces.pop()
            room = self.size.width - Content("".join(text for text, _ in pieces + end)).cell_length
            if room >= 0 or least == 0:
                self.show([*pieces, (" " * max(0, room), ""), *end])
                return


def _throughput(state: SessionState) -> list[tuple[int, Sequence[Piece]]]:
    """Return voxels or pixels a second; nothing where the input is not of space."""
    if not state.extent:
        return []
    unit = " MVx/s" if state.extent == 3 else " MPx/s"
    return [(6, ((f"{state.status.voxel_rate / 1e6:.1f}", ""), (unit, "dim")))]


def banner_text(state: SessionState, keys: KeyMap, read_only: bool) -> tuple[tuple[Piece, ...], str]:
    """Return what a person must be told, and in which role; nothing when all is well."""

    def key(name: str) -> Piece:
        return (f" {keys.shown(find(name))} ", "reverse")

    status = state.status
    if state.link == "lost":
        return (
            (
                (" connection lost, reconnecting ", "bold"),
                (" what you see is from before. ", ""),
                (state.link_text, ""),
            ),
            "bad",
        )
    if state.link == "live" and state.link_text:
        return ((f" {state.link_text} ", "bold"), (" what you see may be from before", "")), "warn"
    if state.link == "ended":
        told = status.reason if status.reason.startswith(status.state) else f"{status.state}: {status.reason}"
        return (
            ((f" session {told.rstrip(': ')} ", "bold"), (" ", ""), key("home"), (" sessions", "")),
            ("bad" if status.state in ("failed", "lost") else "accent"),
        )
    if status.state == "halted":
        pieces = [(f" halted: {status.reason or 'an error'} ", "bold")]
        if not read_only:
            pieces += [
                key("pause"),
                (" resume  ", ""),
                key("console"),
                (" look at the frame  ", ""),
                key("stop"),
                (" stop", ""),
            ]
        return tuple(pieces), "bad"
    if status.held_by:
        pieces = [(f" held by the console of {status.held_by} ", "bold")]
        if not read_only:
            pieces += [key("hold"), (" let it go on", "")]
        return tuple(pieces), "warn"
    if status.state == "paused":
        reason = f" ({status.reason})" if status.reason else ""
        pieces = [(f" paused{reason} ", "bold")]
        if not read_only:
            pieces += [key("pause"), (" resume", "")]
        return tuple(pieces), "warn"
    return (), ""


class Banner(Line):
    """One line that is there only when something waits for a person."""

    DEFAULT_CSS = """
    Banner { display: none; background: $warning; color: $background; }
    Banner.-shown { display: block; }
    Banner.-bad { background: $error; }
    Banner.-accent { background: $accent; }
    """

    def __init__(self) -> None:
        super().__init__(id="banner")

    def render(self) -> RenderResult:
        """Draw the line, a long reason cut: the keys behind it are what a person needs."""
        line = super().render()
        if not isinstance(line, Content) or line.cell_length <= self.size.width:
            return line
        behind = line[len(self._pieces[0][0]) :]
        room = max(self.size.width - behind.cell_length - 1, 0)
        return line.truncate(room, ellipsis=True) + Content(" ") + behind

    def take(self, state: SessionState, keys: KeyMap, read_only: bool) -> None:
        """Show what a state asks for, or go."""
        pieces, role = banner_text(state, keys, read_only)
        self.show(pieces)
        self.set_class(bool(pieces), "-shown")
        self.set_class(role == "bad", "-bad")
        self.set_class(role == "accent", "-accent")


class TabLine(Line):
    """The panes by number, when only one of them is seen."""

    DEFAULT_CSS = """
    TabLine { display: none; }
    TabLine.-shown { display: block; }
    """

    def __init__(self, panes: Sequence[str]) -> None:
        super().__init__(id="tabs")
        self._panes = tuple(panes)

    def mark(self, active: str) -> None:
        """Show which pane is seen."""
        pieces: list[Piece] = []
        for number_, pane in enumerate(self._panes, start=1):
            pieces.append((f" {number_} {pane} ", "bold reverse" if pane == active else "dim"))
            pieces.append((" ", ""))
        self.show(pieces)

    def on_click(self, event: object) -> None:
        """Go to the pane that was clicked."""
        x, start = getattr(event, "x", 0), 0
        for number_, pane in enumerate(self._panes, start=1):
            start += len(f" {number_} {pane} ") + 1
            if x < start:
                self.screen.run_worker(self.screen.run_action(f"pane('{pane}')"))
                return


class KeyLine(Line):
    """The keys of a screen as far as they fit; or, for a while, what just happened."""

    DEFAULT_CSS = "KeyLine { height: auto; max-height: 4; dock: bottom; background: $surface; }"

    def __init__(self, screen: str, keys: KeyMap) -> None:
        super().__init__(id="keys")
        self._for_screen = screen
        self._keymap = keys
        self._read_only = False
        self._message: tuple[Piece, ...] = ()
        self._until: Timer | None = None

    @property
    def message(self) -> str:
        """What just happened, empty when the keys are shown."""
        return "".join(text for text, _ in self._message)

    def set_read_only(self, read_only: bool) -> None:
        """Leave out what may not be done."""
        self._read_only = read_only
        self._fit()

    def say(self, text: str, role: str = "good") -> None:
        """Say what happened, for some seconds, instead of the keys."""
        sign = {"good": "✓ ", "bad": "✗ ", "warn": "! "}.get(role, "")
        self._message = ((f" {sign}", role), (text, "" if role == "good" else role))
        if self._until is not None:
            self._until.stop()
        self._until = self.set_timer(MESSAGE_SECONDS, self.clear)
        self._fit()

    def clear(self) -> None:
        """Show the keys again."""
        self._message = ()
        self._fit()

    def on_resize(self) -> None:
        """Show as many keys as fit now."""
        self._fit()

    def _fit(self) -> None:
        if self._message:
            self.show(self._message)
            return
        actions = sorted((a for a in actions_for(self._for_screen) if a.footer), key=lambda action: action.footer)
        if self._read_only:
            actions = [action for action in actions if not action.writes]
        always = [action for action in actions if action.name in ("help", "detach", "leave", "pause")]
        optional = [action for action in actions if action not in always]
        while True:
            shown = [action for action in actions if action in always or action in optional]
            pieces: list[Piece] = []
            for action in shown:
                key = self._keymap.shown(action)
                if action.name in TOGETHER:
                    between, last = TOGETHER[action.name]
                    key += between + self._keymap.shown(find(last))
                pieces += [(f" {key}", "key"), (f" {action.label} ", "dim")]
            if sum(len(text) for text, _ in pieces) <= self.size.width or not optional:
                self.show(pieces)
                return
            optional.pop()
