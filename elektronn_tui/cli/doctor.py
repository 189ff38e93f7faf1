"""``elektronn doctor``: check what sessions need of this machine, before it fails them."""

from __future__ import annotations

import argparse
import importlib.metadata
import locale
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from elektronn_tui.errors import ElektronnError

from . import DONE, REFUSED
from .output import add_json, print_json, print_line

Verdict = Literal["good", "note", "bad"]
_SYMBOLS = {"good": "✓", "note": "!", "bad": "✗"}


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    text: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run every check; 1 when one of them is bad."""
    findings = [finding for check in CHECKS for finding in _guarded(check)]
    if args.json:
        print_json([vars(finding) for finding in findings])
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            print_line(f"{_SYMBOLS[finding.verdict]} {finding.check.ljust(width)}  {finding.text}")
    return REFUSED if any(finding.verdict == "bad" for finding in findings) else DONE


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        yield from check()
    except (ElektronnError, OSError, subprocess.SubprocessError) as error:
        yield Finding(name, "bad", str(error))


def check_packages() -> Iterator[Finding]:
    """Python and the packages that count."""
    versions = [f"Python {sys.version.split()[0]}"]
    for package in ("elektronn-tui", "torch", "textual", "numba"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding("packages", "bad", f"{package} is not installed in {sys.prefix}")
    yield Finding("packages", "good", ", ".join(versions))


def check_home() -> Iterator[Finding]:
    """The directory of runs: writable, and on what file system."""
    from elektronn_tui.session.registry import home, runs_directory
    from elektronn_tui.training.history import is_network_file_system

    directory = home()
    with tempfile.NamedTemporaryFile(dir=runs_directory()):
        pass
    free = shutil.disk_usage(directory).free / 2**30
    verdict: Verdict = "good" if free > 5 else "note"
    yield Finding("home", verdict, f"{directory}, {free:.0f} GiB free (ELEKTRONN_HOME)")
    if is_network_file_system(directory):
        text = "it is on a network file system: sessions of other hosts show, and the history uses no write-ahead log"
        yield Finding("home", "note", text)


def check_sockets() -> Iterator[Finding]:
    """The directory of sockets: private, and its path short enough."""
    from elektronn_tui.session.registry import new_id, socket_path

    yield Finding("sockets", "good", f"{socket_path(new_id()).parent} (ELEKTRONN_RUNTIME)")


def check_sessions() -> Iterator[Finding]:
    """Sessions that run, after sweeping those whose process is gone."""
    from elektronn_tui.session.registry import registry_directory, sweep

    before = len(list(registry_directory().glob("*.json")))
    left = sweep()
    swept = before - len(left)
    yield Finding("sessions", "good", f"{len(left)} running" + (f", {swept} stale swept away" if swept > 0 else ""))


def check_logout() -> Iterator[Finding]:
    """Whether systemd ends what a person leaves running at logout."""
    if not shutil.which("loginctl"):
        yield Finding("logout", "good", "no systemd-logind here: sessions live on after logout")
        return
    user = str(os.getuid())
    shown = subprocess.run(
        ["loginctl", "show-user", user, "-p", "Linger", "-p", "KillUserProcesses"],
        capture_output=True,
        text=True,
        check=False,
        timeout=5,
    ).stdout
    kills = subprocess.run(
        ["busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1",
         "org.freedesktop.login1.Manager", "KillUserProcesses"],
        capture_output=True, text=True, check=False, timeout=5,
    ).stdout.strip().endswith("true")  # fmt: skip
    if kills and "Linger=yes" not in shown:
        text = "logind ends your processes at logout (KillUserProcesses=yes); once:  loginctl enable-linger"
        yield Finding("logout", "bad", text)
    else:
        yield Finding("logout", "good", "sessions live on after logout")


def check_terminal() -> Iterator[Finding]:
    """Colours, characters and multiplexer of this terminal."""
    term = os.environ.get("TERM", "")
    if term in ("", "dumb"):
        yield Finding("terminal", "note", f"TERM={term or 'unset'}: no application here, but every verb works")
        return
    true_colour = os.environ.get("COLORTERM") in ("truecolor", "24bit")
    colours = "true colour" if true_colour else "256 colours" if "256" in term or "direct" in term else "16 colours"
    multiplexer = " in tmux" if os.environ.get("TMUX") else " in screen" if os.environ.get("STY") else ""
    yield Finding("terminal", "good", f"{term}{multiplexer}, {colours}")
    encoding = locale.getpreferredencoding(False)
    if encoding.replace("-", "").upper() != "UTF8":
        yield Finding("terminal", "note", f"the locale is {encoding}, not UTF-8: plots fall back to ASCII")


def check_processor() -> Iterator[Finding]:
    """What the processor can do for training."""
    flags: set[str] = set()
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith(("flags", "Features")):
                flags = set(line.split(":", 1)[1].split())
                break
    cores = len(os.sched_getaffinity(0))
    has_bf16 = bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    text = f"{cores} cores, {'bf16 in hardware' if has_bf16 else 'no bf16: precision auto trains in fp32'}"
    yield Finding("processor", "good" if has_bf16 else "note", text)


def check_accelerator() -> Iterator[Finding]:
    """Whether a GPU can be seen, without importing torch."""
    if not shutil.which("nvidia-smi"):
        yield Finding("accelerator", "note", "no NVIDIA driver found: training runs on the processor")
        return
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=20)
    names = [line.split(" (UUID")[0] for line in listed.stdout.splitlines() if line.startswith("GPU")]
    if names:
        yield Finding("accelerator", "good", "; ".join(names))
    else:
        yield Finding("accelerator", "bad", (listed.stdout or listed.stderr).strip().split("\n")[0] or "no GPU listed")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_packages,
    check_home,
    check_sockets,
    check_sessions,
    check_logout,
    check_terminal,
    check_processor,
    check_accelerator,
)
"""Every check, in the order in which it is printed."""
