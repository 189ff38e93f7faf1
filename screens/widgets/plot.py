"""Curves in a widget: redrawn when their data change, and then only the rows that do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.style import Style
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from .canvas import draw
from .series import Look, Mark, Series

__all__ = ["Look", "Mark", "Plot", "Series"]

_SMOOTHINGS = (0.0, 0.6, 0.9, 0.97)


class Plot(Widget):
    """Several curves with legend and axes.

    Parameters
    ----------
    title : str
        First words of the title row; the legend with current values follows.
    look : Look, optional
        What is on at the start; see the reactive attributes of the same names.
    name, id, classes : str, optional
        As for every widget.
    """

    DEFAULT_CSS = "Plot { width: 1fr; height: 1fr; }"

    log_y: reactive[bool] = reactive(False, repaint=False)
    x_axis: reactive[Literal["step", "time"]] = reactive("step", repaint=False)
    band: reactive[bool] = reactive(True, repaint=False)
    smoothing: reactive[float] = reactive(0.0, repaint=False)
    ascii: reactive[bool] = reactive(False, repaint=False)

    def __init__(
        self,
        title: str = "",
        *,
        look: Look | None = None,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._plot_title = title
        self._plot_series: tuple[Series, ...] = ()
        self._plot_marks: tuple[Mark, ...] = ()
        self._plot_strips: list[Strip] = []
        self._plot_drawn_for: Size | None = None
        self._plot_style: Style | None = None
        if look is not None:
            for key in ("log_y", "x_axis", "band", "smoothing", "ascii"):
                self.set_reactive(getattr(Plot, key), getattr(look, key))

    # Data -----------------------------------------------------------------------------------------

    @property
    def series(self) -> tuple[Series, ...]:
        """The curves shown."""
        return self._plot_series

    @property
    def look(self) -> Look:
        """How they are drawn."""
        return Look(self.log_y, self.x_axis, self.band, self.smoothing, self.ascii)

    def set_series(self, series: Sequence[Series], title: str | None = None) -> None:
        """Show these curves; nothing happens if they are the very same objects as before.

        Parameters
        ----------
        series : sequence of Series
            Immutable; a curve that changed is a new object.
        title : str, optional
            New title.
        """
        new = tuple(series)
        same_title = title is None or title == self._plot_title
        if new == self._plot_series and same_title:
            return
        self._plot_series = new
        self._plot_title = self._plot_title if title is None else title
        self._plot_update()

    def set_marks(self, marks: Sequence[Mark]) -> None:
        """Show a ▲ below the curves for each of these."""
        new = tuple(marks)
        if new != self._plot_marks:
            self._plot_marks = new
            self._plot_update()

    # Look -----------------------------------------------------------------------------------------

    def action_toggle_log(self) -> None:
        """Switch between linear and logarithmic y axis."""
        self.log_y = not self.log_y

    def action_toggle_time(self) -> None:
        """Switch between steps and training time along the x axis."""
        self.x_axis = "time" if self.x_axis == "step" else "step"

    def action_toggle_band(self) -> None:
        """Show or hide the range between minimum and maximum."""
        self.band = not self.band

    def action_cycle_smoothing(self) -> None:
        """Go to the next strength of smoothing; after the last one comes none."""
        self.smoothing = next((value for value in _SMOOTHINGS if value > self.smoothing + 1e-9), 0.0)

    def _watch_log_y(self) -> None:
        self._plot_update()

    def _watch_x_axis(self) -> None:
        self._plot_update()

    def _watch_band(self) -> None:
        self._plot_update()

    def _watch_smoothing(self) -> None:
        self._plot_update()

    def _watch_ascii(self) -> None:
        self._plot_update()

    # Drawing --------------------------------------------------------------------------------------

    def _plot_draw(self) -> None:
        size = self.content_size
        self._plot_strips = draw(
            self._plot_series,
            size.width,
            size.height,
            title=self._plot_title,
            look=self.look,
            marks=self._plot_marks,
        )
        self._plot_drawn_for = size

    def _plot_update(self) -> None:
        """Draw again and ask for the rows that changed; a plot that isn't seen is drawn when it is."""
        before, size = self._plot_strips, self._plot_drawn_for
        if size is None or size != self.content_size or not self.is_on_screen:
            self._plot_drawn_for = None
            self.refresh()
            return
        self._plot_draw()
        changed = [
            Region(0, y, size.width, 1)
            for y, (old, new) in enumerate(zip(before, self._plot_strips, strict=True))
            if old != new
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        """Give one row of the plot."""
        if self._plot_drawn_for != self.content_size:
            self._plot_draw()
        style = self._plot_style
        if style is None:
            style = self._plot_style = self.rich_style
        if y < len(self._plot_strips):
            return self._plot_strips[y].apply_style(style)
        return Strip.blank(self.content_size.width, style)

    def notify_style_update(self) -> None:
        """Forget the style, which every row of a redraw would else look up through all ancestors."""
        super().notify_style_update()
        self._plot_style = None
