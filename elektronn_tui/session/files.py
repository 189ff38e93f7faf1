"""Private directories, atomic files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from elektronn_tui.errors import SessionError

__all__ = ["private_directory", "write_atomically"]


def private_directory(path: Path, *, strict: bool = False) -> Path:
    """Make a directory that only its owner can enter, and check that it is one.

    Parameters
    ----------
    path
        Directory; made with its parents where it does not exist.
    strict
        Refuse a directory that group or others can enter, as one in a place where everybody can write
        (``/tmp``) must be. Without it only the owner is checked.

    Raises
    ------
    SessionError
        The path is not a directory of ours, or (`strict`) its mode is wider than 0700.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(path) if strict else os.stat(path)
    except OSError as error:
        raise SessionError(f"directory {path} can't be made: {error.strerror or error}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise SessionError(f"{path} is not a directory; remove it or name another place")
    if found.st_uid != os.getuid():
        raise SessionError(f"directory {path} belongs to user {found.st_uid}, not to you ({os.getuid()}); name another")
    if strict and stat.S_IMODE(found.st_mode) & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise SessionError(f"directory {path} is open to others (mode {mode:04o}); run: chmod 700 {path}")
    return path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content or the new one, and a crash leaves one of them."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
