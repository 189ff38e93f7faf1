"""Fixtures that all tests may use."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Whatever else a machine is doing, a test passes or fails by what it tests.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Ignored signals stay ignored in all children: a suite that is run in the background of a script, or by nohup, would
# start programs that no Ctrl-C and no closed terminal reaches.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real volumes (``fib25/``, ``gala/``, ...); tests that need it are skipped where it is absent.

    ``$ELEKTRONN_SHARED/data`` if set, else ``shared/data`` beside the checkout.
    """
    given = os.environ.get("ELEKTRONN_SHARED")
    folder = (Path(given) if given else Path(__file__).resolve().parents[2] / "shared") / "data"
    if not folder.is_dir():
        pytest.skip(f"no real volumes at {folder}; set ELEKTRONN_SHARED to the folder that holds data/")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home and a runtime directory of the test's own, the latter with a path short enough for sockets."""
    runtime = tempfile.mkdtemp(prefix="el-")
    monkeypatch.setenv("ELEKTRONN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ELEKTRONN_RUNTIME", runtime)
    yield tmp_path / "home"
    shutil.rmtree(runtime, ignore_errors=True)
