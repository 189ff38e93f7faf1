"""Homes of their own, and a session with its server around a loop in a thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_loop import FakeLoop

from elektronn_tui.session.server import Timeouts


@pytest.fixture
def make_loop(home: Path, tmp_path: Path) -> Iterator[Callable[..., FakeLoop]]:
    """Make fake loops that end with the test."""
    made: list[FakeLoop] = []

    def make(**timeouts: float) -> FakeLoop:
        patience = Timeouts(**({"hello": 5.0, "stalled": 30.0, "watch": 0.05, "goodbye": 2.0} | timeouts))
        loop = FakeLoop(tmp_path / f"run{len(made)}", Path(os.environ["ELEKTRONN_RUNTIME"]), patience)
        made.append(loop)
        return loop

    yield make
    for loop in made:
        loop.close()


@pytest.fixture
def loop(make_loop: Callable[..., FakeLoop]) -> FakeLoop:
    """A session that runs."""
    return make_loop()
