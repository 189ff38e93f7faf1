"""Which sessions there are, where their files lie, which of them are alive.

The home directory may be shared by several hosts: a host judges and sweeps only what is its own.
"""

from __future__ import annotations

import difflib
import os
import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from elektronn_tui.errors import SessionError, SessionNotFound, did_you_mean

from .files import private_directory, write_atomically
from .processes import boot_id, host_name, pid_namespace, process_start
from .protocol import LIVE_STATES, State

__all__ = [
    "Entry",
    "SessionFile",
    "SessionInfo",
    "create_run",
    "find",
    "home",
    "liveness",
    "new_id",
    "own_entry",
    "read_session_file",
    "register",
    "registry_directory",
    "runs_directory",
    "runtime",
    "sessions",
    "socket_path",
    "sweep",
    "unregister",
]

Liveness = Literal["alive", "dead", "elsewhere"]
LONGEST_SOCKET_PATH = 99  # bytes; the system's limit is 107, and some copy it into shorter fields
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that runs, or did when it last wrote: ``registry/<id>.json``."""

    id: str
    name: str
    host: str
    boot_id: str
    pid: int
    process_start: int
    run_dir: str
    socket: str
    started: float  # Unix time
    pid_namespace: str = ""
    experiment: str = ""


class SessionFile(msgspec.Struct, frozen=True, kw_only=True):
    """``session.json`` of a run directory: identity, state and versions of a session."""

    id: str
    name: str
    state: State
    host: str
    pid: int
    started: float  # Unix time
    reason: str = ""
    step: int = 0
    steps: int | None = None
    updated: float = 0.0  # Unix time
    training_time: float = 0.0  # seconds
    boot_id: str = ""
    process_start: int = 0
    pid_namespace: str = ""
    experiment: str = ""
    versions: dict[str, str] = {}
    git: str = ""


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A session in a list: a running one, or a past run."""

    name: str
    id: str
    state: State  # "lost": its host says that the process is gone though it never said good-bye
    reason: str
    step: int
    steps: int | None
    run_dir: str
    pid: int
    host: str
    started: float
    updated: float
    training_time: float
    experiment: str
    socket: str  # empty when it can't be reached from here
    liveness: Liveness


def home() -> Path:
    """Return ``$ELEKTRONN_HOME`` (default ``~/elektronn``), made with mode 0700."""
    return private_directory(
        Path(os.environ.get("ELEKTRONN_HOME") or Path.home() / "elektronn").expanduser().absolute()
    )


def runs_directory() -> Path:
    """Return the directory that holds one directory a run."""
    return private_directory(home() / "runs")


def registry_directory() -> Path:
    """Return the directory of the entries of running sessions."""
    return private_directory(home() / "registry")


def runtime() -> Path:
    """Return ``$ELEKTRONN_RUNTIME`` (default ``/tmp/elektronn-<uid>``), where sockets lie; 0700 and ours, or refused.

    Not below ``$XDG_RUNTIME_DIR``, which is wiped at logout while a session lives on.
    """
    named = os.environ.get("ELEKTRONN_RUNTIME") or f"/tmp/elektronn-{os.getuid()}"
    return private_directory(Path(named).expanduser().absolute(), strict=True)


def socket_path(session_id: str) -> Path:
    """Return where the socket of a session lies.

    Raises
    ------
    SessionError
        The path is too long for a socket, or its directory is not private.
    """
    path = runtime() / f"{session_id}.sock"
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise SessionError(
            f"socket path {path} is longer than {LONGEST_SOCKET_PATH} bytes; set ELEKTRONN_RUNTIME to a shorter one"
        )
    return path


def new_id() -> str:
    """Return a new session id: eight hexadecimal digits."""
    return secrets.token_hex(4)


def create_run(experiment: str, name: str | None = None) -> Path:
    """Make the directory of a new run; no existing run is ever touched.

    Parameters
    ----------
    experiment
        Name of the experiment; with a time stamp it becomes the run's name when none is given.
    name
        Name of the run.

    Raises
    ------
    SessionError
        The name can't be one, or a run has it already.
    """
    directory = runs_directory()
    if name is not None:
        if not _NAME.fullmatch(name):
            raise SessionError(
                f"{name!r} can't be a session's name: begin with a letter or digit, go on with those and . _ + -"
            )
        try:
            (directory / name).mkdir(mode=0o700)
        except FileExistsError:
            raise SessionError(f"a run named {name!r} exists already in {directory}; choose another name") from None
        return directory / name
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", experiment).strip("-._+")[:60] or "session"
    stem = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        try:
            (directory / (stem + suffix)).mkdir(mode=0o700)
        except FileExistsError:
            continue
        return directory / (stem + suffix)
    raise SessionError(f"no free name that begins with {stem!r} in {directory}")


def own_entry(*, session_id: str, run_dir: Path, experiment: str = "") -> Entry:
    """Return the entry of this process."""
    start = process_start(os.getpid())
    return Entry(
        id=session_id,
        name=run_dir.name,
        host=host_name(),
        boot_id=boot_id(),
        pid=os.getpid(),
        process_start=start or 0,
        run_dir=str(run_dir),
        socket=str(socket_path(session_id)),
        started=time.time(),
        pid_namespace=pid_namespace(),
        experiment=experiment,
    )


def register(entry: Entry) -> None:
    """Write a session's entry."""
    write_atomically(registry_directory() / f"{entry.id}.json", msgspec.json.format(msgspec.json.encode(entry)))


def unregister(entry: Entry) -> None:
    """Remove a session's entry; one that is gone already is no error."""
    (registry_directory() / f"{entry.id}.json").unlink(missing_ok=True)


def liveness(entry: Entry | SessionFile) -> Liveness:
    """Say whether a session's process runs, does not, or can't be judged from here."""
    if entry.host != host_name() or (entry.pid_namespace and entry.pid_namespace != pid_namespace()):
        return "elsewhere"
    if entry.boot_id != boot_id():
        return "dead"
    start = process_start(entry.pid)
    return "alive" if start is not None and start == entry.process_start else "dead"


def sweep() -> list[Entry]:
    """Remove entries and sockets of this host's dead sessions; return the entries that are left."""
    left = []
    for path in sorted(registry_directory().glob("*.json")):
        try:
            entry = msgspec.json.decode(path.read_bytes(), type=Entry)
        except FileNotFoundError:
            continue  # its session ended just now
        except (OSError, msgspec.DecodeError):
            continue  # not ours to judge: perhaps a newer version wrote it
        if liveness(entry) == "dead":
            path.unlink(missing_ok=True)
            socket = Path(entry.socket)
            if socket.name == f"{entry.id}.sock":
                socket.unlink(missing_ok=True)
        else:
            left.append(entry)
    return left


def read_session_file(run_dir: Path) -> SessionFile | None:
    """Return what a run directory's ``session.json`` says; None when there is none that can be read."""
    try:
        return msgspec.json.decode((run_dir / "session.json").read_bytes(), type=SessionFile)
    except (OSError, msgspec.DecodeError):
        return None


def sessions(*, past: bool = False) -> list[SessionInfo]:
    """Return the running sessions, oldest first; with `past` also those that ended or were lost."""
    found: dict[str, SessionInfo] = {}
    for entry in sweep():
        found[entry.id] = _of_entry(entry)
    if past:
        for path in runs_directory().iterdir():
            file = read_session_file(path)
            if file is not None and file.id not in found:
                found[file.id] = _of_file(path, file)
    return sorted(found.values(), key=lambda info: (info.started, info.name))


def find(text: str, *, past: bool = True, exact: bool = False) -> SessionInfo:
    """Return the session that goes by a name, a unique prefix of one, or an id.

    Parameters
    ----------
    text
        What the user wrote.
    past
        Consider sessions that ended, too. A prefix means a running session where one fits.
    exact
        Take a full name or id only.

    Raises
    ------
    SessionNotFound
        None fits, or several do: the message lists them.
    """
    known = sessions(past=past)
    for info in known:
        if text in (info.id, info.name):
            return info
    fitting = [] if exact or not text else [info for info in known if info.name.startswith(text)]
    running = [info for info in fitting if info.state in LIVE_STATES]
    if len(running) == 1:
        return running[0]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise SessionNotFound(f"{text!r} could be any of: {_names(running or fitting)}")
    names = [info.name for info in known]
    hint = did_you_mean(text, names) or _hint_by_experiment(text, names)
    raise SessionNotFound(f"no session goes by {text!r}.{hint} {_those_that_run(known)}")


def _hint_by_experiment(text: str, names: Iterable[str]) -> str:
    # A time stamp makes up most of a name, so a typo before it is not near as a whole.
    stems = {re.sub(r"-\d{8}-\d{6}(-\d+)?$", "", name): name for name in names}
    near = difflib.get_close_matches(text, list(stems), n=1, cutoff=0.6)
    return f" Did you mean {stems[near[0]]!r}?" if near else ""


def _those_that_run(known: list[SessionInfo]) -> str:
    running = [info for info in known if info.state in LIVE_STATES]
    return f"Running: {_names(running)}" if running else "No session is running."


def _names(infos: list[SessionInfo]) -> str:
    shown = ", ".join(info.name for info in infos[:10])
    return shown + (f" and {len(infos) - 10} more" if len(infos) > 10 else "")


def _of_entry(entry: Entry) -> SessionInfo:
    file = read_session_file(Path(entry.run_dir))
    if file is None or file.id != entry.id:
        file = SessionFile(
            id=entry.id, name=entry.name, state="starting", host=entry.host, pid=entry.pid, started=entry.started
        )
    life = liveness(entry)
    return _info(file, Path(entry.run_dir), life, entry.socket if life == "alive" else "", entry.experiment)


def _of_file(run_dir: Path, file: SessionFile) -> SessionInfo:
    life: Liveness = "dead"
    if file.state in LIVE_STATES:
        life = liveness(file)
        if life == "dead":
            file = msgspec.structs.replace(file, state="lost", reason="its process is gone and never said good-bye")
    reachable = life == "alive" and socket_path(file.id).exists()  # its registry entry was deleted by somebody
    return _info(file, run_dir, life, str(socket_path(file.id)) if reachable else "", file.experiment)


def _info(file: SessionFile, run_dir: Path, life: Liveness, socket: str, experiment: str) -> SessionInfo:
    return SessionInfo(
        name=run_dir.name,
        id=file.id,
        state=file.state,
        reason=file.reason,
        step=file.step,
        steps=file.steps,
        run_dir=str(run_dir),
        pid=file.pid,
        host=file.host,
        started=file.started,
        updated=file.updated,
        training_time=file.training_time,
        experiment=experiment,
        socket=socket,
        liveness=life,
    )
