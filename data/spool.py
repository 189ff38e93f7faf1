"""Blocks of a volume on their way to a file: what is there survives any kill, and nothing is there by halves."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

__all__ = ["BlockProgress", "Spool", "sizes_begun_with"]

STATE = "state.json"


@dataclass(frozen=True)
class BlockProgress:
    """How far something is that is made block by block.

    Attributes
    ----------
    done, blocks : int
        Blocks that are finished, also those of an earlier run, and all of them.
    voxels : int
        That this run has made, those of the block in work among them.
    share : float
        Of the whole, from 0 to 1.
    """

    done: int
    blocks: int
    voxels: int
    share: float


def _begun_with(folder: Path) -> dict[str, Any]:
    """Return what the blocks of a spool depend on; nothing where none was begun.

    Raises
    ------
    DataError
        It can't be read.
    """
    try:
        state = json.loads((folder / STATE).read_text())
    except FileNotFoundError:  # also of one that was killed before the first block
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / STATE} can't be read: {error}; --force begins anew.") from error
    return state if isinstance(state, dict) else {}


def sizes_begun_with(folder: Path, key: str) -> tuple[int, ...] | None:
    """Return sizes that a spool was begun with, for a run that goes on with it; None where it says none.

    Raises
    ------
    DataError
        It can't be read, or these are no sizes.
    """
    sizes = _begun_with(folder).get(key)
    if sizes is None:
        return None
    if not isinstance(sizes, list) or not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise DataError(f"{folder / STATE}: {key} is {sizes!r}, which are no sizes; --force begins anew.")
    return tuple(sizes)


class Spool:
    """A folder with a file for each finished block, and what the volume is made of.

    A block is written under another name, forced to disk and then renamed, so that after a kill it is there whole or
    not at all. A lock keeps a second process out; it ends with the process.

    Parameters
    ----------
    folder
        Is made where it doesn't exist.
    identity
        What all blocks depend on, as plain values: a spool is gone on with only where it is the same.
    resume
        Go on with a spool that was begun.
    force
        Begin anew.

    Raises
    ------
    DataError
        It was begun and neither is said, it was begun for something else, or another process is at it.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, resume: bool = False, force: bool = False) -> None:
        self.folder = folder
        begun = folder.is_dir()
        if begun and not (resume or force):
            raise DataError(f"{folder} was begun by another run; --resume goes on with it, --force begins anew.")
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise DataError(f"{folder}: another process is writing there now.") from None
        try:
            self._begin(json.loads(json.dumps(dict(identity))), anew=force and not resume)
        except BaseException:
            self.close()
            raise
        self.done = {int(path.stem) for path in self._files()}

    def _begin(self, identity: dict[str, Any], *, anew: bool) -> None:
        if anew:
            for path in self._files():
                path.unlink()
        else:
            self._check(identity)
        self._put(STATE, json.dumps(identity, indent=1).encode())

    def _files(self) -> list[Path]:
        return [path for path in self.folder.glob("*.npy") if path.stem.isdigit()]

    def _check(self, wanted: dict[str, Any]) -> None:
        was = _begun_with(self.folder)
        if not was:
            return
        if differing := [key for key in wanted | was if wanted.get(key) != was.get(key)]:
            said = "; ".join(f"{key} was {was.get(key)!r}, is {wanted.get(key)!r}" for key in differing)
            raise DataError(f"{self.folder} was begun for something else: {said}. --force begins anew.")

    def write(self, number: int, block: npt.NDArray[Any]) -> None:
        """Keep a block.

        Raises
        ------
        DataError
            The disk is full, or can't be written to.
        """
        self._put(f"{number}.npy", block)
        self.done.add(number)

    def read(self, number: int) -> npt.NDArray[Any]:
        """Return a block, mapped into memory."""
        array: npt.NDArray[Any] = np.load(self.folder / f"{number}.npy", mmap_mode="r")
        return array

    def _put(self, name: str, content: bytes | npt.NDArray[Any]) -> None:
        temporary = self.folder / f".{name}"
        try:
            with open(temporary, "wb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    np.save(file, content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.folder / name)
        except OSError as error:
            reason = error.strerror or error
            raise DataError(
                f"{self.folder / name} can't be written: {reason}; what is done is kept, --resume goes on."
            ) from error

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Delete it, or after an error keep what is done for a run that goes on."""
        if kind is None:
            self.remove()
        else:
            self.close()

    def close(self) -> None:
        """Let another process at it."""
        os.close(self._lock)

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder)
        self.close()
