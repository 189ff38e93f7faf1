"""Widgets that know nothing of sessions: curves, logs, images, code and values to edit.

``Plot``, ``LogView``, ``ImageView``, ``CodeInput`` and ``InlineEdit`` can be had from here; each is imported when it
is asked for, since the first frame needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .code_input import CodeInput
    from .half_blocks import ImageView, Picture
    from .inline_edit import InlineEdit
    from .log_view import LogView
    from .plot import Look, Mark, Plot, Series

__all__ = ["CodeInput", "ImageView", "InlineEdit", "LogView", "Look", "Mark", "Picture", "Plot", "Series"]

_HOMES = {
    "CodeInput": "code_input",
    "ImageView": "half_blocks",
    "InlineEdit": "inline_edit",
    "LogView": "log_view",
    "Look": "series",
    "Mark": "series",
    "Picture": "half_blocks",
    "Plot": "plot",
    "Series": "series",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
