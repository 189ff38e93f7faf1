"""The one table of what a person can do in the application.

Key bindings, the footer, the help screen, the command palette and the key settings are all made from it, so that none
can disagree. It imports no Textual: the documentation and the command line read it too.
"""

from __future__ import annotations

from dataclasses import dataclass

from elektronn_tui.errors import ElektronnError, did_you_mean

__all__ = ["ACTIONS", "Action", "KeySettingError", "actions_for", "find"]


class KeySettingError(ElektronnError, ValueError):
    """The settings give an action a key that it can't have."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something that a person can do.

    Parameters
    ----------
    name : str
        The screen's method is ``action_<name>`` unless `call` says otherwise; also its name in the key settings.
    keys : tuple of str
        Default keys as they are typed (``":"``, ``"ctrl+p"``); the first is shown.
    label : str
        One or two words, for the footer.
    palette : str
        What the command palette calls it.
    help : str
        A sentence for the help screen.
    screens : tuple of str
        Where it exists: ``"session"``, ``"home"``.
    group : str
        Heading on the help screen.
    verb : str
        The command that does the same, after ``elektronn``; empty for what only concerns the view.
    footer : int
        Rank in the footer, the lowest stays longest when the line is short; 0 for not shown.
    writes : bool
        Whether it changes the session, so that a read-only client may not use it.
    call : str
        Textual's action string where it is not the name.
    """

    name: str
    keys: tuple[str, ...]
    label: str
    palette: str
    help: str
    screens: tuple[str, ...] = ("session",)
    group: str = "training"
    verb: str = ""
    footer: int = 0
    writes: bool = False
    call: str = ""

    @property
    def action(self) -> str:
        """Textual's action string."""
        return self.call or self.name


_PANES = (
    ("plots", "loss and error curves"),
    ("preview", "raw, prediction and target"),
    ("controls", "learning rate and all that can be changed"),
    ("log", "the session's log"),
    ("graph", "the network"),
    ("console", "Python in the session"),
)

ACTIONS: tuple[Action, ...] = (
    # training
    Action(
        name="pause",
        keys=("p",),
        label="pause",
        palette="Pause or resume training",
        help="Wait at the next step boundary; the same key goes on. Paused time is not training time.",
        verb="pause, resume",
        footer=1,
        writes=True,
    ),
    Action(
        name="edit",
        keys=("e",),
        label="edit",
        palette="Edit the selected control",
        help="Change the control under the cursor; applied between two steps and answered with the step.",
        verb="set",
        footer=2,
        writes=True,
    ),
    Action(
        name="console",
        keys=(":",),
        label="console",
        palette="Write in the console",
        help="Go to the console's input. Esc leaves it.",
        verb="exec",
        footer=3,
    ),
    Action(
        name="undo",
        keys=("u",),
        label="undo",
        palette="Undo the last edit",
        help="Take the last edit of a control back; itself an edit, with a receipt.",
        verb="undo",
        footer=4,
        writes=True,
    ),
    Action(
        name="redo",
        keys=("r",),
        label="redo",
        palette="Redo what was undone",
        help="Bring back what was undone.",
        verb="redo",
        writes=True,
    ),
    Action(
        name="unpin",
        keys=("U",),
        label="unpin",
        palette="Give the selected control back to its schedule",
        help="Give the control under the cursor back to its schedule.",
        verb="set CONTROL=schedule",
        writes=True,
    ),
    Action(
        name="save",
        keys=("s",),
        label="save",
        palette="Save a checkpoint",
        help="Write a checkpoint at the next step boundary.",
        verb="save",
        footer=5,
        writes=True,
    ),
    Action(
        name="preview",
        keys=("v",),
        label="preview",
        palette="Make a preview now",
        help="Predict the preview region with the weights as they are.",
        footer=6,
        writes=True,
    ),
    Action(
        name="predict",
        keys=("d",),
        label="predict",
        palette="Predict a volume (dense prediction)",
        help="Predict a whole volume with a snapshot of the weights, in a process beside the training, which goes on.",
        verb="predict",
        writes=True,
    ),
    Action(
        name="jobs",
        keys=("J",),
        label="jobs",
        palette="Jobs: what is predicted beside the training",
        help="List the predictions that wait, run or are over; cancel one.",
        verb="jobs",
    ),
    Action(
        name="hold",
        keys=("h",),
        label="hold",
        palette="Hold the loop for the console, or let it go",
        help="Switch the console between hold (the loop waits) and observe (statements run between steps).",
        writes=True,
    ),
    Action(
        name="interrupt",
        keys=("I", "ctrl+c"),
        label="interrupt",
        palette="Interrupt the running statement",
        help="Raise KeyboardInterrupt in the console's running statement, never in the training.",
        writes=True,
    ),
    Action(
        name="stop",
        keys=("S",),
        label="stop",
        palette="Stop the session",
        help="End the training at the next step boundary, with a checkpoint. Asks first.",
        verb="stop",
        writes=True,
    ),
    # view
    Action(
        name="filter",
        keys=("/",),
        label="filter",
        palette="Filter the pane",
        help="Show only the lines of this pane that contain a text; empty or Esc shows all again.",
        screens=("session", "home"),
        group="view",
        footer=7,
    ),
    Action(
        name="zoom",
        keys=("z",),
        label="zoom",
        palette="Zoom the pane",
        help="Give the whole screen to this pane; the same key brings the others back.",
        group="view",
        footer=8,
    ),
    Action(
        name="slice_down",
        keys=("[",),
        label="slice",
        palette="Preview: previous slice",
        help="Show the z slice below.",
        group="view",
        footer=9,
        call="slice(-1)",
    ),
    Action(
        name="slice_up",
        keys=("]",),
        label="slice",
        palette="Preview: next slice",
        help="Show the z slice above.",
        group="view",
        call="slice(1)",
    ),
    Action(
        name="magnify",
        keys=("+", "="),
        label="closer",
        palette="Preview: closer",
        help="Show a smaller part of the slice, larger.",
        group="preview",
        call="magnify(1)",
    ),
    Action(
        name="shrink",
        keys=("-",),
        label="farther",
        palette="Preview: farther",
        help="Show a larger part of the slice, smaller.",
        group="preview",
        call="magnify(-1)",
    ),
    Action(
        name="whole_slice",
        keys=("f", "0"),
        label="whole",
        palette="Preview: the whole slice, or what is readable",
        help="Show the whole slice; again, a part at which thin membranes can be seen.",
        group="preview",
    ),
    *(
        Action(
            name=f"pan_{direction}",
            keys=(direction,),
            label=direction,
            palette=f"Preview: {direction}",
            help=f"Move {direction} in the slice, while the preview is the active pane.",
            group="preview",
            call=f"pan({y}, {x})",
        )
        for direction, y, x in (("left", 0, -1), ("right", 0, 1), ("up", -1, 0), ("down", 1, 0))
    ),
    *(
        Action(
            name=f"pane_{pane}",
            keys=(str(number),),
            label="panes" if number == 1 else pane,
            palette=f"Go to the {pane}",
            help=f"Go to pane {number}: {what}.",
            group="panes",
            footer=10 if number == 1 else 0,
            call=f"pane('{pane}')",
        )
        for number, (pane, what) in enumerate(_PANES, start=1)
    ),
    Action(
        name="next_pane",
        keys=("tab",),
        label="next",
        palette="Next pane",
        help="Go to the next pane.",
        group="panes",
        call="cycle(1)",
    ),
    Action(
        name="previous_pane",
        keys=("shift+tab",),
        label="previous",
        palette="Previous pane",
        help="Go to the pane before.",
        group="panes",
        call="cycle(-1)",
    ),
    Action(
        name="metrics",
        keys=("m",),
        label="metrics",
        palette="Choose the metrics that are plotted",
        help="Choose which series each plot shows.",
        group="plots",
    ),
    Action(
        name="log_y",
        keys=("y",),
        label="log y",
        palette="Plots: logarithmic or linear y axis",
        help="Switch the y axes between linear and logarithmic.",
        group="plots",
    ),
    Action(
        name="time_axis",
        keys=("t",),
        label="time",
        palette="Plots: x axis in steps or training time",
        help="Switch the x axes between steps and training time (pauses removed).",
        group="plots",
    ),
    Action(
        name="smoothing",
        keys=("w",),
        label="smooth",
        palette="Plots: smoothing",
        help="Go through the smoothing windows; the dim band keeps the smallest and largest value of each column.",
        group="plots",
    ),
    Action(
        name="span",
        keys=("x",),
        label="range",
        palette="Plots: whole run or its last part",
        help="Show the whole run, its last half, tenth or hundredth.",
        group="plots",
    ),
    Action(
        name="mark_previous",
        keys=(",",),
        label="mark",
        palette="Plots: previous mark",
        help="Go to the mark (▲ an edit, a save, a pause) before and show what it was.",
        group="plots",
        call="mark(-1)",
    ),
    Action(
        name="mark_next",
        keys=(".",),
        label="mark",
        palette="Plots: next mark",
        help="Go to the next mark.",
        group="plots",
        call="mark(1)",
    ),
    # home
    Action(
        name="open",
        keys=("enter",),
        label="open",
        palette="Open the selected session",
        help="Attach to the running session under the cursor, or read a finished one.",
        screens=("home",),
        group="sessions",
        verb="attach",
        footer=1,
    ),
    Action(
        name="watch",
        keys=("w",),
        label="watch",
        palette="Open the selected session read-only",
        help="Attach to the session under the cursor without the right to change it.",
        screens=("home",),
        group="sessions",
        verb="attach --read-only",
        footer=3,
    ),
    Action(
        name="new",
        keys=("n",),
        label="new",
        palette="Start a session from the zoo or a file",
        help="Choose an experiment of the zoo or give a file, and start it.",
        screens=("home",),
        group="sessions",
        verb="tui EXPERIMENT",
        footer=2,
    ),
    Action(
        name="all_runs",
        keys=("a",),
        label="all",
        palette="Show running sessions only, or all",
        help="Switch between all runs and those that still run.",
        screens=("home",),
        group="sessions",
        verb="ls --all",
        footer=4,
    ),
    # application
    Action(
        name="home",
        keys=("H",),
        label="home",
        palette="Go to the list of sessions",
        help="Leave this session running and show all sessions.",
        group="application",
        verb="ls",
    ),
    Action(
        name="refresh",
        keys=("R", "ctrl+l"),
        label="redraw",
        palette="Read everything again and redraw the screen",
        help="Ask for the state again and draw the whole screen anew.",
        screens=("session", "home"),
        group="application",
    ),
    Action(
        name="detach",
        keys=("q",),
        label="detach",
        palette="Detach: leave, and let the training go on",
        help="Leave the application. The training goes on; `elektronn attach` comes back.",
        screens=("session",),
        group="application",
        footer=11,
    ),
    Action(
        name="leave",
        keys=("q",),
        label="quit",
        palette="Quit; running sessions go on",
        help="Leave the application. Running sessions go on.",
        screens=("home",),
        group="application",
        footer=11,
    ),
    Action(
        name="help",
        keys=("?", "f1"),
        label="help",
        palette="Help: keys and words",
        help="This list.",
        screens=("session", "home"),
        group="application",
        footer=12,
    ),
    Action(
        name="palette",
        keys=("ctrl+p", "f2"),
        label="palette",
        palette="Command palette",
        help="Find any action by typing a part of its name.",
        screens=("session", "home"),
        group="application",
        call="app.command_palette",
    ),
)


def actions_for(screen: str) -> tuple[Action, ...]:
    """Return the actions of a screen, in the table's order."""
    return tuple(action for action in ACTIONS if screen in action.screens)


def find(name: str) -> Action:
    """Return the action of that name.

    Raises
    ------
    KeySettingError
        There is none.
    """
    for action in ACTIONS:
        if action.name == name:
            return action
    raise KeySettingError(f"no action is called {name!r}.{did_you_mean(name, [a.name for a in ACTIONS])}")
