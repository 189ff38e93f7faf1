"""Two themes whose every colour is one of the 256 of xterm, so that they look the same wherever they are shown."""

from __future__ import annotations

from textual.theme import Theme

__all__ = ["DARK", "LIGHT"]

DARK = Theme(
    name="elektronn",
    dark=True,
    primary="#5fafd7",
    secondary="#87afaf",
    accent="#5fafd7",
    success="#87d787",
    warning="#d7af5f",
    error="#ff5f5f",
    foreground="#d0d0d0",
    background="#121212",
    surface="#1c1c1c",
    panel="#303030",
    variables={
        "text-muted": "#8a8a8a",
        "border": "#4e4e4e",
        "border-blurred": "#3a3a3a",
        "block-cursor-background": "#005f87",
        "block-cursor-foreground": "#ffffff",
        "input-selection-background": "#005f87",
        "scrollbar": "#4e4e4e",
        "scrollbar-background": "#121212",
        "scrollbar-hover": "#8a8a8a",
        "scrollbar-active": "#5fafd7",
        "scrollbar-background-hover": "#121212",
        "scrollbar-background-active": "#121212",
        "scrollbar-corner-color": "#121212",
    },
)

LIGHT = Theme(
    name="elektronn-light",
    dark=False,
    primary="#005f87",
    secondary="#5f8787",
    accent="#005faf",
    success="#008700",
    warning="#af5f00",
    error="#d70000",
    foreground="#262626",
    background="#ffffff",
    surface="#eeeeee",
    panel="#dadada",
    variables={
        "text-muted": "#6c6c6c",
        "border": "#bcbcbc",
        "border-blurred": "#d0d0d0",
        "block-cursor-background": "#afd7ff",
        "block-cursor-foreground": "#000000",
        "input-selection-background": "#afd7ff",
        "scrollbar": "#bcbcbc",
        "scrollbar-background": "#ffffff",
        "scrollbar-hover": "#6c6c6c",
        "scrollbar-active": "#005faf",
        "scrollbar-background-hover": "#ffffff",
        "scrollbar-background-active": "#ffffff",
        "scrollbar-corner-color": "#ffffff",
    },
)
