"""The errors of this package: one family, each message says what is wrong and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "CodeMissing",
    "ControlError",
    "DataError",
    "ElektronnError",
    "ExperimentError",
    "ModelError",
    "NodeNotFound",
    "ProtocolError",
    "SessionError",
    "SessionNotFound",
    "ShapeError",
    "did_you_mean",
]


class ElektronnError(Exception):
    """Base of every error that this package raises on purpose."""


class ExperimentError(ElektronnError, ValueError):
    """An experiment can't be used: names file, field, value and what is allowed."""


class ModelError(ElektronnError, ValueError):
    """A network can't be built, saved or loaded."""


class ShapeError(ModelError):
    """Shapes don't fit: names node, axis, size and the sizes that would fit."""

    axis: str | None = None
    """Tag of the axis, where it is about one."""


class CodeMissing(ModelError):
    """A model file names code of somebody else's, which has to be given again."""


class NodeNotFound(ModelError, KeyError):
    """No node goes by that name."""

    __str__ = Exception.__str__  # that of KeyError puts the message into quotes


class DataError(ElektronnError, ValueError):
    """A source, pair or patch can't be read or made: names file, key and shape."""


class CheckpointError(ElektronnError):
    """A checkpoint can't be written or read."""


class ControlError(ElektronnError, ValueError):
    """A control was refused: names control, value and limits."""


class ProtocolError(ElektronnError):
    """Bytes on a session's socket that are not our protocol."""


class SessionError(ElektronnError):
    """A session can't be started, reached or told what was asked."""


class SessionNotFound(SessionError, LookupError):
    """No session goes by that name."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest of `known`, or an empty string when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
