"""The preview pane: raw, prediction and target of a fixed region, slice by slice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from elektronn_tui.session.protocol import GetPreview, Preview

from ..state import Part, SessionState
from ..widgets.half_blocks import ImageView, Picture
from ..wording import count
from .pane import Pane

__all__ = ["PreviewPane"]


class PreviewPane(Pane):
    """Pictures side by side, in half blocks."""

    DEFAULT_CSS = """
    PreviewPane #no-preview { color: $text-muted; }
    """
    pane_name = "preview"
    number = 2
    parts: ClassVar[frozenset[Part]] = frozenset(("preview",))
    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,right,k", "screen.slice(1)", "slice above", show=False),
        Binding("down,left,j", "screen.slice(-1)", "slice below", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.z: int | None = None
        self.shown: Preview | None = None
        self._fetched: object = None
        self._busy = False
        self._again = False

    def owner(self) -> Widget | None:
        """The pane itself: its arrow keys go through the slices."""
        return self

    def content(self) -> Iterable[Widget]:
        """Give the place for the pictures."""
        yield Static("", id="no-preview", markup=False)
        yield ImageView()

    def take(self, state: SessionState, parts: frozenset[Part]) -> None:
        """Ask for the newest preview."""
        if parts & {"preview", "link"}:
            self.fetch()

    def on_resize(self) -> None:
        """Ask for as many pixels as there is room for."""
        self.fetch()

    def scroll_slice(self, by: int) -> None:
        """Go to another slice."""
        info = self.state.preview
        if info is None:
            self.session.say("there is no preview yet", "dim")
            return
        now = self.z if self.z is not None else (self.shown.z if self.shown is not None else info.depth // 2)
        self.z = max(0, min(now + by, info.depth - 1))
        self.fetch()

    def fetch(self) -> None:
        """Ask for the slice if it is not what is shown; one question at a time."""
        if not self.built or not self.size.width:
            return
        info = self.state.preview
        self.query_one("#no-preview").display = info is None
        if info is None:
            text = "its files are in previews/" if self.state.link == "ended" else "no preview yet"
            self.query_one("#no-preview", Static).update(text)
            return
        if self._busy:
            self._again = True
            return
        pictures = max(1, len(info.captions))
        width = max(8, self.size.width // pictures)
        height = max(8, 2 * (self.size.height - 1))
        wanted = (info.count, info.step, self.z, width, height)
        if wanted == self._fetched:
            return
        self._fetched = wanted
        self._busy = True
        self.run_worker(self._get(GetPreview(z=self.z, height=height, width=width)), group="preview")

    async def _get(self, question: GetPreview) -> None:
        try:
            answer = await self.session.ask(question)
            if isinstance(answer, Preview):
                self.shown = answer
                self._draw(answer)
            else:
                self._fetched = None
        finally:
            self._busy = False
        if self._again:
            self._again = False
            self.fetch()

    def _draw(self, preview: Preview) -> None:
        import numpy as np

        place = f"z {preview.z + 1}/{preview.depth}   " if preview.depth > 1 else ""
        self.set_title(f"{place}step {count(preview.step)}")
        self.query_one(ImageView).show(
            *(
                Picture(np.frombuffer(image.pixels, np.uint8).reshape(image.height, image.width), image.caption)
                for image in preview.images
            )
        )
