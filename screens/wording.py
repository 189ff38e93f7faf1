"""Numbers, times and states as people read them."""

from __future__ import annotations

import math
import time
from typing import Any

__all__ = ["ago", "clock", "count", "duration", "number", "size", "state_symbol", "value_text"]

_SYMBOLS = {
    "starting": "◌",
    "running": "●",
    "paused": "❚❚",
    "halted": "▲",
    "finished": "✓",
    "stopped": "■",
    "failed": "✗",
    "lost": "?",
}
_ROLES = {"running": "good", "paused": "warn", "halted": "bad", "failed": "bad", "lost": "bad", "finished": "accent"}


def state_symbol(state: str) -> tuple[str, str]:
    """Return a session state's symbol and the role that colours it."""
    return _SYMBOLS.get(state, "·"), _ROLES.get(state, "dim")


def count(value: int) -> str:
    """Return a whole number with thin groups: ``12430`` → ``"12 430"``."""
    return f"{value:,}".replace(",", " ")


def size(value: float) -> str:
    """Return a large number in three digits: ``48210`` → ``"48.2 k"``."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g}"


def number(value: float | None) -> str:
    """Return a measured value in four digits; ``None`` and NaN as words."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.4g}"


def value_text(value: Any) -> str:
    """Return a control's value as it would be typed, in at most seven digits."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != 0 and math.isfinite(value) and (abs(value) < 1e-3 or abs(value) >= 1e6):
            mantissa, exponent = f"{value:.6e}".split("e")
            mantissa = mantissa.rstrip("0")
            return f"{mantissa}0e{int(exponent)}" if mantissa.endswith(".") else f"{mantissa}e{int(exponent)}"
        text = f"{value:.7g}"
        return text if "." in text or not text.lstrip("-").isdigit() else f"{text}.0"
    if isinstance(value, (list, tuple)):
        return ", ".join(value_text(item) for item in value)
    return str(value)


def duration(seconds: float | None) -> str:
    """Return a span of time in its two largest units: ``11520`` → ``"3 h 12 m"``."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(0, round(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {secs} s" if minutes else f"{secs} s"


def clock(unix: float) -> str:
    """Return the local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(unix))


def ago(unix: float, now: float) -> str:
    """Return how long ago something was, in its largest unit."""
    seconds = max(0.0, now - unix)
    for limit, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= limit:
            return f"{seconds / limit:.0f} {unit} ago"
    return "just now"
