"""The preview pane: raw, prediction and target of a fixed region, slice by slice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from elektronn_tui.session.protocol import GetPreview, Preview, PreviewInfo
from elektronn_tui.session.window import LARGEST_ZOOM, Window, voxels_a_pixel, window

from ..state import Part, SessionState
from ..widgets.half_blocks import ImageView, Picture, pixels_for
from ..wording import count
from .pane import Pane

__all__ = ["PreviewPane"]

COARSEST = 2.5
"""Voxels that a pixel stands for unless a person wants to see more: a membrane is 2 or 3 wide."""
ZOOM_STEP = 2**0.5
PAN_STEP = 0.25  # of the part that is shown
LEAST_SHOWN = 8  # voxels along an axis


class PreviewPane(Pane):
    """Pictures side by side, in half blocks."""

    DEFAULT_CSS = """
    PreviewPane #no-preview { color: $text-muted; }
    """
    pane_name = "preview"
    number = 2
    parts: ClassVar[frozenset[Part]] = frozenset(("preview", "status"))
    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k,pageup", "screen.slice(1)", "slice above", show=False),
        Binding("j,pagedown", "screen.slice(-1)", "slice below", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.z: int | None = None
        self.zoom: float | None = None  # none chosen: what is readable
        self.centre = (0.5, 0.5)  # y, x
        self.shown: Preview | None = None
        self._fetched: object = None
        self._busy = False
        self._again = False
        self._said = ""  # in place of pictures

    def owner(self) -> Widget | None:
        """The pane itself: its arrow keys move in the slice."""
        return self

    def content(self) -> Iterable[Widget]:
        """Give the place for the pictures."""
        yield Static("", id="no-preview", markup=False)
        yield ImageView()

    def take(self, state: SessionState, parts: frozenset[Part]) -> None:
        """Ask for the newest preview."""
        if parts & {"preview", "link"} or state.preview is None:
            self.fetch()

    def on_resize(self) -> None:
        """Ask for as many pixels as there is room for."""
        self.fetch()

    def scroll_slice(self, by: int) -> None:
        """Go to another slice."""
        info = self.state.preview
        if info is None:
            self.session.say(self._none(), "dim")
            return
        now = self.z if self.z is not None else (self.shown.z if self.shown is not None else info.depth // 2)
        slices = info.slices or range(info.depth)
        nearest = min(range(len(slices)), key=lambda place: abs(slices[place] - now))
        self.z = slices[max(0, min(nearest + by, len(slices) - 1))]
        self.fetch()

    def magnify(self, by: int) -> None:
        """Show a smaller (`by` > 0) or larger part of the slice."""
        info = self._sized()
        if info is not None:
            size = (info.height, info.width)
            largest = min(max(min(size) / LEAST_SHOWN, 1.0), LARGEST_ZOOM)
            self.zoom = min(max(self._zoom(info) * ZOOM_STEP**by, 1.0), largest)
            self._look_at(info, *self.centre)

    def toggle_whole(self) -> None:
        """Show the whole slice; when it is shown, the part of it that is readable."""
        info = self._sized()
        if info is not None:
            self.zoom = None if self._zoom(info) == 1 else 1.0
            self._look_at(info, *self.centre)

    def pan(self, down: int, right: int) -> None:
        """Move in the slice."""
        info = self._sized()
        if info is not None:
            part = self._window(info)
            y, x = self.centre
            self._look_at(
                info, y + down * PAN_STEP * part.height / info.height, x + right * PAN_STEP * part.width / info.width
            )

    def _look_at(self, info: PreviewInfo, y: float, x: float) -> None:
        """Move the middle of what is shown, no farther than to where an edge is seen."""
        part = self._window(info)
        half_y, half_x = part.height / info.height / 2, part.width / info.width / 2
        self.centre = (min(max(y, half_y), 1 - half_y), min(max(x, half_x), 1 - half_x))
        self.fetch()

    def _sized(self) -> PreviewInfo | None:
        info = self.state.preview
        if info is None:
            self.session.say(self._none(), "dim")
        elif not (info.height and info.width and self.size.width):
            self.session.say("this preview can only be seen as a whole", "dim")
        else:
            return info
        return None

    def _room(self, info: PreviewInfo) -> tuple[int, int]:
        captions = any(info.captions) or not info.captions
        return pixels_for(self.size.width, self.size.height, max(1, len(info.captions)), captions=captions)

    def _zoom(self, info: PreviewInfo) -> float:
        if self.zoom is not None or not (info.height and info.width):
            return self.zoom or 1.0
        return min(max(voxels_a_pixel((info.height, info.width), self._room(info)) / COARSEST, 1.0), LARGEST_ZOOM)

    def _window(self, info: PreviewInfo) -> Window:
        return window((info.height, info.width), self._room(info), self._zoom(info), self.centre)

    def fetch(self) -> None:
        """Ask for the slice if it is not what is shown; one question at a time."""
        if not self.built or not self.size.width:
            return
        info = self.state.preview
        self.query_one("#no-preview").display = info is None
        if info is None:
            self._say_none()
            return
        if self._busy:
            self._again = True
            return
        (height, width), zoom, (y, x) = self._room(info), self._zoom(info), self.centre
        question = GetPreview(z=self.z, height=height, width=width, zoom=zoom, centre_y=y, centre_x=x)
        wanted = (info.count, info.step, question)
        if wanted == self._fetched:
            return
        self._fetched = wanted
        self._busy = True
        self.run_worker(self._get(question), group="preview")

    def _none(self) -> str:
        why = self.state.status.no_preview
        if why:
            return f"no previews: {why}"
        return "its files are in previews/" if self.state.link == "ended" else "no preview yet"

    def _say_none(self) -> None:
        if (text := self._none()) != self._said:
            self._said = text
            self.query_one("#no-preview", Static).update(text)

    async def _get(self, question: GetPreview) -> None:
        try:
            answer = await self.session.ask(question)
            if isinstance(answer, Preview):
                self.shown = answer
                self._draw(answer, question.zoom)
            else:
                self._fetched = None
        finally:
            self._busy = False
        if self._again:
            self._again = False
            self.fetch()

    def _draw(self, preview: Preview, zoom: float) -> None:
        import numpy as np

        along = self.state.preview.along if self.state.preview is not None else "z"
        place = f"{along} {preview.z + 1}/{preview.depth}  " if preview.depth > 1 else ""
        self.set_title(f"{place}step {count(preview.step)}{self._part(preview, zoom)}")
        self.query_one(ImageView).show(
            *(
                Picture(np.frombuffer(image.pixels, np.uint8).reshape(image.height, image.width), image.caption)
                for image in preview.images
            )
        )

    def _part(self, preview: Preview, zoom: float) -> str:
        """Say what part of the slice is shown."""
        info = self.state.preview
        if preview.window is None or info is None:
            return ""
        _, _, height, width = preview.window
        whole = f"{info.height}×{info.width} {'voxels' if self.state.extent == 3 else 'pixels'}"
        return f"  {whole}" if zoom == 1 else f"  ×{zoom:.1f}  {height}×{width} of {whole}"
