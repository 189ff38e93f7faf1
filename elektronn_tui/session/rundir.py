"""What a worker writes about itself into its run directory."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path

import msgspec

import elektronn_tui

from .files import write_atomically
from .launch import Order
from .registry import Entry, SessionFile
from .session import Session

__all__ = ["StateFile", "git_version", "write_environment", "write_order"]

EVERY = 10.0
"""Seconds after which the step in ``session.json`` is brought up to date."""
_PACKAGES = ("torch", "numpy", "numba", "h5py", "scipy", "scikit-image", "msgspec", "safetensors")


class StateFile:
    """``session.json``, written by a thread of its own whenever the session's state changes, and now and then."""

    def __init__(self, session: Session, entry: Entry, git: str) -> None:
        self._session = session
        self._path = session.run_dir / "session.json"
        self._changed = threading.Event()
        self._over = False
        self._written_step = -1
        versions = {"python": platform.python_version(), "elektronn-tui": elektronn_tui.__version__}
        for package in _PACKAGES:
            try:
                versions[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        self._first = SessionFile(
            id=entry.id,
            name=entry.name,
            state="starting",
            host=entry.host,
            pid=entry.pid,
            started=entry.started,
            boot_id=entry.boot_id,
            process_start=entry.process_start,
            pid_namespace=entry.pid_namespace,
            experiment=entry.experiment,
            versions=versions,
            git=git,
        )
        self.write()
        self._thread = threading.Thread(target=self._run, name="session-state", daemon=True)
        self._thread.start()
        session.on_state = self._changed.set

    def write(self) -> None:
        """Write the file."""
        status = self._session.status()
        file = msgspec.structs.replace(
            self._first,
            state=status.state,
            reason=status.reason,
            step=status.step,
            steps=status.steps,
            updated=time.time(),
            training_time=status.training_time,
        )
        write_atomically(self._path, msgspec.json.format(msgspec.json.encode(file)))
        self._written_step = status.step

    def close(self) -> None:
        """Write the last state."""
        self._session.on_state = None
        self._over = True
        self._changed.set()
        self._thread.join()
        self.write()

    def _run(self) -> None:
        failed = False
        while not self._over:
            changed = self._changed.wait(EVERY)
            self._changed.clear()
            if self._over or not (changed or self._session.step != self._written_step):
                continue
            try:
                self.write()
                failed = False
            except OSError as error:
                if not failed:
                    self._session.logger.warning("session.json can't be written: %s", error)
                failed = True


def write_order(order: Order, run_dir: Path) -> None:
    """Keep what was asked for: a copy of the experiment file, and the order."""
    source = Path(order.experiment)
    if source.is_file():
        shutil.copyfile(source, run_dir / "experiment.py")
    write_atomically(run_dir / "order.json", msgspec.json.format(msgspec.json.encode(order)))


def write_environment(run_dir: Path) -> None:
    """Write ``environment.txt``: interpreter, system, variables that matter, installed packages."""
    packages = sorted({f"{found.name}=={found.version}" for found in metadata.distributions()}, key=str.lower)
    prefixes = ("OMP_", "MKL_", "MALLOC_", "TORCH_", "CUDA_", "NUMBA_", "ELEKTRONN_", "SLURM_", "KMP_")
    variables = sorted(f"{key}={value}" for key, value in os.environ.items() if key.startswith(prefixes))
    lines = [
        f"python {sys.version}".replace("\n", " "),
        f"executable {sys.executable}",
        f"platform {platform.platform()}",
        f"arguments {sys.argv}",
        "",
        *variables,
        "",
        *packages,
    ]
    (run_dir / "environment.txt").write_text("\n".join(lines) + "\n")


def git_version(directory: Path) -> str:
    """Return the commit that a directory is at, with "-dirty" when files differ; empty where there is none."""
    try:
        found = subprocess.run(
            ["git", "-C", str(directory), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2.0,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
