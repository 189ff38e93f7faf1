"""Pictures of the main screens with a frozen state.

``pytest tests/screens/test_screen_snapshots.py --snapshot-update`` takes them anew; look at each before it is kept.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_session import FakeSession
from textual.pilot import Pilot

from elektronn_tui.screens.application import ElektronnApp
from elektronn_tui.screens.panes.preview import PreviewPane
from elektronn_tui.screens.widgets.half_blocks import ImageView
from elektronn_tui.screens.widgets.plot import Plot

PLACES = {
    "grid": ((120, 40), ()),
    "narrow": ((80, 24), ()),
    "preview-narrow": ((80, 24), ("2",)),
    "controls-narrow": ((80, 24), ("3", "down", "down", "down")),
    "graph-narrow": ((80, 24), ("5",)),
    "paused": ((120, 40), ("p",)),
    "stop": ((80, 24), ("S",)),
    "help": ((80, 24), ("question_mark",)),
}


@pytest.mark.parametrize("place", PLACES)
def test_screen(place: str, home: Any, snap_compare: Any) -> None:
    size, keys = PLACES[place]
    fake = FakeSession(home)

    class Shown(ElektronnApp):
        """The application, with its session in the same loop."""

        async def on_load(self) -> None:
            await fake.listen()

        async def on_unmount(self) -> None:
            await fake.vanish()

    async def ready(pilot: Pilot[None]) -> None:
        screen = pilot.app.screen
        for _ in range(2000):
            plots, images = list(screen.query(Plot)), list(screen.query(ImageView))
            if len(plots) == 2 and all(plot.series for plot in plots) and all(image.pictures for image in images):
                break
            await asyncio.sleep(0.01)
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        shown = pilot.app.screen_stack[0]
        for _ in range(2000):
            # A pane that was laid out anew asks for as many pixels as it has now.
            await pilot.pause()
            asking = any(preview._busy for preview in shown.query(PreviewPane))
            if not asking and all(image.pictures for image in shown.query(ImageView)):
                break
            await asyncio.sleep(0.01)
        if place == "paused":
            while not pilot.app.screen.query_one("#banner").display:
                await asyncio.sleep(0.01)
        await pilot.pause(0.2)

    assert snap_compare(Shown(fake.info), terminal_size=size, run_before=ready)
