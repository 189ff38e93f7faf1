"""The plots pane: curves by family (losses, errors, ...), with marks where something was changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from elektronn_tui.session.protocol import Curve, CurveQuery, Curves, GetCurves, Mark, MetricInfo

from ..arrays import load_numpy
from ..dialogs import PickDialog
from ..state import Part, SessionState
from ..widgets.plot import Plot
from ..widgets.series import Look, Series
from ..widgets.series import Mark as PlotMark
from ..wording import count, number
from .pane import Pane

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["PlotsPane", "default_metrics", "families"]

SMOOTHINGS = (0.0, 0.6, 0.9, 0.98)
SPANS = ((1.0, ""), (0.5, "last half"), (0.1, "last tenth"), (0.01, "last hundredth"))
MOST_PLOTS = 4


def family(metric: str) -> str:
    """Return what a metric measures: the last word of its name (``valid_balanced_error`` → ``error``)."""
    return metric.replace(".", "_").replace("/", "_").rsplit("_", 1)[-1]


def families(metrics: Iterable[str]) -> dict[str, list[str]]:
    """Group metrics by what they measure, in order."""
    groups: dict[str, list[str]] = {}
    for metric in metrics:
        groups.setdefault(family(metric), []).append(metric)
    return groups


def default_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Choose what is plotted before anybody chose: the losses, and the errors with the balanced ones before plain ones.

    Of several errors, those of the validation that are not balanced are left out where balanced ones are.
    """
    known = list(names)
    losses = [name for name in known if family(name) == "loss"]
    errors = [name for name in known if family(name) == "error"]
    balanced = [name for name in errors if "balanced" in name]
    plain = [name for name in errors if name not in balanced and not (balanced and name.startswith("valid"))]
    chosen = losses[:3] + balanced + plain
    return tuple(chosen) if chosen else tuple(known[:2])


class PlotsPane(Pane):
    """Curves of the chosen metrics, one plot a family."""

    DEFAULT_CSS = """
    PlotsPane Plot { height: 1fr; }
    PlotsPane #no-curves { color: $text-muted; padding: 0 1; }
    """
    pane_name = "plots"
    number = 1
    parts: ClassVar[frozenset[Part]] = frozenset(("metrics", "marks"))
    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "screen.mark(-1)", "previous mark", show=False),
        Binding("right", "screen.mark(1)", "next mark", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.look = Look(smoothing=0.6)
        self.chosen: tuple[str, ...] | None = None
        self._span = 0
        self._mark_index: int | None = None
        self._fetched: object = None
        self._busy = False
        self._again = False
        self._curves: dict[str, Curve] = {}

    def owner(self) -> Widget | None:
        """The pane itself: its arrow keys go from mark to mark."""
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is plotted."""
        known = self.state.metrics
        chosen = self.chosen if self.chosen is not None else default_metrics(known)
        wanted = self.filter_text.lower()
        return tuple(name for name in (known if wanted else chosen) if name in known and wanted in name.lower())

    def take(self, state: SessionState, parts: frozenset[Part]) -> None:
        """Ask for the curves that changed, and show the marks."""
        if parts & {"metrics", "marks", "link"}:
            self._name_mark()
            self.fetch()

    def apply_filter(self, text: str) -> None:
        """Plot the metrics whose names contain a text."""
        self.fetch()

    def on_resize(self) -> None:
        """Ask for as many points as there are columns now."""
        self.fetch()

    def content(self) -> Iterable[Widget]:
        """Give what is there before the first curve."""
        yield Static("no curves yet", id="no-curves")

    # --- data

    def fetch(self) -> None:
        """Ask for the curves if they changed since they were asked for; one question at a time."""
        if not self.built or not self.size.width:
            return
        if self._busy:
            self._again = True
            return
        names = self.metrics
        known = self.state.metrics
        width = max(40, 2 * (self.size.width - 7))
        first = self._first_step(known, names)
        wanted = (names, width, first, self.look, len(self.state.marks), tuple(_version(known[name]) for name in names))
        if wanted == self._fetched:
            return
        self._fetched = wanted
        self._busy = True
        queries = tuple(CurveQuery(metric=name, first=first, width=width) for name in names)
        self.run_worker(self._get(queries), group="curves")

    async def _get(self, queries: tuple[CurveQuery, ...]) -> None:
        try:
            if queries:
                answer = await self.session.ask(GetCurves(queries=queries))
                if isinstance(answer, Curves):
                    self._curves = {curve.metric: curve for curve in answer.curves}
                else:
                    self._fetched = None
            await self._draw()
        finally:
            self._busy = False
        if self._again:
            self._again = False
            self.fetch()

    def _first_step(self, known: Mapping[str, MetricInfo], names: Sequence[str]) -> int:
        share = SPANS[self._span][0]
        newest = max((known[name].step for name in names), default=0)
        return 0 if share == 1.0 else max(0, int(newest * (1 - share)))

    async def _draw(self) -> None:
        groups = families(name for name in self.metrics if name in self._curves)
        shown = list(groups.items())[:MOST_PLOTS]
        self.query_one("#no-curves").display = not shown
        plots = list(self.query(Plot))
        while len(plots) > len(shown):
            await plots.pop().remove()
        new = [Plot() for _ in shown[len(plots) :]]
        if new:
            await self.mount_all(new)
            plots += new
        marks = [PlotMark(mark.step, None if math.isnan(mark.time) else mark.time, mark.text) for mark in self._marks()]
        span = SPANS[self._span][1]
        first = self._first_step(self.state.metrics, self.metrics)
        for plot, (title, names) in zip(plots, shown, strict=True):
            unit = next((self.state.metrics[name].unit for name in names if self.state.metrics[name].unit), "")
            more = ", ".join(word for word in (unit, "log" if self.look.log_y else "", span) if word)
            plot.log_y, plot.x_axis, plot.smoothing = self.look.log_y, self.look.x_axis, self.look.smoothing
            plot.set_series([self._series(name, title) for name in names], f"{title} ({more})" if more else title)
            plot.set_marks([mark for mark in marks if mark.step >= first])

    def _series(self, name: str, group: str) -> Series:
        load_numpy()
        import numpy as np

        def array(raw: bytes, dtype: str) -> npt.NDArray[np.generic]:
            return np.frombuffer(raw, dtype)

        curve = self._curves[name]
        label = name[: -len(group)].rstrip("_./") or "train"
        value = self.state.metrics[name].value
        return Series(
            label,
            step=array(curve.step, "<i8"),
            mean=array(curve.mean, "<f4"),
            low=array(curve.minimum, "<f4"),
            high=array(curve.maximum, "<f4"),
            time=array(curve.time, "<f8"),
            last=math.nan if value is None else value,
        )

    # --- marks

    def _marks(self) -> tuple[Mark, ...]:
        return self.state.marks

    def _name_mark(self) -> None:
        marks = self._marks()
        if not marks:
            self.set_title()
            return
        index = len(marks) - 1 if self._mark_index is None else max(0, min(self._mark_index, len(marks) - 1))
        mark = marks[index]
        place = f" [{index + 1}/{len(marks)}]" if self._mark_index is not None else ""
        self.set_title(f"▲ {count(mark.step)}  {mark.text}{place}")

    def go_to_mark(self, by: int) -> None:
        """Name the mark before or after the one that is named."""
        marks = self._marks()
        if not marks:
            self.session.say("nothing was changed in this run so far", "dim")
            return
        now = len(marks) - 1 if self._mark_index is None else self._mark_index
        self._mark_index = max(0, min(now + by, len(marks) - 1)) if self._mark_index is not None or by < 0 else now
        self._name_mark()

    # --- what is shown

    def choose_metrics(self) -> None:
        """Ask which metrics are plotted."""
        known = self.state.metrics
        options = [
            (name, f"{number(info.value)} {info.unit}".strip() + f"   {info.help}") for name, info in known.items()
        ]

        def chosen(names: tuple[str, ...] | None) -> None:
            if names is not None:
                self.chosen = names
                self.fetch()

        self.app.push_screen(PickDialog("metrics that are plotted", options, self.metrics), chosen)

    def toggle_log(self) -> None:
        """Switch the y axes between linear and logarithmic."""
        self._restyle(log_y=not self.look.log_y)
        self.session.say("y axes: logarithmic" if self.look.log_y else "y axes: linear", "dim")

    def toggle_time(self) -> None:
        """Switch the x axes between steps and training time."""
        self._restyle(x_axis="time" if self.look.x_axis == "step" else "step")
        self.session.say("x axes: training time" if self.look.x_axis == "time" else "x axes: steps", "dim")

    def next_smoothing(self) -> None:
        """Smooth more, or not at all after the most."""
        at = SMOOTHINGS.index(self.look.smoothing)
        self._restyle(smoothing=SMOOTHINGS[(at + 1) % len(SMOOTHINGS)])
        self.session.say(f"smoothing {self.look.smoothing:g}" if self.look.smoothing else "no smoothing", "dim")

    def next_span(self) -> None:
        """Show a shorter last part of the run, or the whole again after the shortest."""
        self._span = (self._span + 1) % len(SPANS)
        self.session.say(SPANS[self._span][1] or "the whole run", "dim")
        self.fetch()

    def _restyle(self, **changes: object) -> None:
        from dataclasses import replace

        self.look = replace(self.look, **changes)  # type: ignore[arg-type]
        self.fetch()


def _version(metric: MetricInfo) -> tuple[int, int]:
    return metric.count, metric.step
