"""A home of its own for each test, a fake session, and a way to wait for what must come."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

WAIT_SECONDS = 20.0


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty $ELEKTRONN_HOME and $ELEKTRONN_RUNTIME, with a path short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="el-"))
    (directory / "run").mkdir(mode=0o700)
    monkeypatch.setenv("ELEKTRONN_HOME", str(directory))
    monkeypatch.setenv("ELEKTRONN_RUNTIME", str(directory / "run"))
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def fake(home: Path) -> AsyncIterator[Any]:
    """A fake session that listens."""
    from fake_session import FakeSession

    async with FakeSession(home) as session:
        yield session


@pytest.fixture
def until() -> Callable[[Any, Callable[[], Any]], Awaitable[Any]]:
    """``await until(pilot, condition)`` returns the condition's value once it is true, and fails after some seconds."""

    async def wait(pilot: Any, condition: Callable[[], Any]) -> Any:
        end = time.monotonic() + WAIT_SECONDS
        while True:
            value = None
            with contextlib.suppress(LookupError, AttributeError):
                value = condition()
            if value:
                return value
            assert time.monotonic() < end, "what was waited for did not come"
            await pilot.pause()
            await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def shown(fake: Any, until: Any) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """``async with shown(size=(120, 40)) as pilot``: the application on the fake session, its first state on screen."""

    @contextlib.asynccontextmanager
    async def run(size: tuple[int, int] = (120, 40), **keywords: Any) -> AsyncIterator[Any]:
        from elektronn_tui.screens.application import ElektronnApp

        app = ElektronnApp(fake.info, **keywords)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.screen.state.link == "live")
            await pilot.pause()
            yield pilot

    return run
