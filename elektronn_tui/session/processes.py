"""Which process is meant: a pid alone can belong to another one tomorrow."""

from __future__ import annotations

import os
import socket
from pathlib import Path

__all__ = ["boot_id", "host_name", "pid_namespace", "process_start"]


def host_name() -> str:
    """Name of this host."""
    return socket.gethostname()


def boot_id() -> str:
    """Identity of this boot of the host; empty where the system gives none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def pid_namespace() -> str:
    """Identity of the set of pids that this process sees, which differs between containers."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def process_start(pid: int) -> int | None:
    """Return when a process started, in the system's own unit; None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        return _process_start_by_psutil(pid)
    fields = text[text.rindex(")") + 2 :].split()  # the command's name may hold anything, brackets too
    return None if fields[0] in "ZX" else int(fields[19])


def _process_start_by_psutil(pid: int) -> int | None:
    import psutil  # slow to import, and only needed where there is no /proc

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 100)
    except psutil.Error:
        return None
