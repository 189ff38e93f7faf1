"""Which precision computes fastest on a device, by rule."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

import torch

__all__ = ["Precision", "autocast", "cpu_flags", "has_fast_bf16", "resolved"]

Precision = Literal["fp32", "bf16"]


def resolved(precision: str, device: torch.device) -> Precision:
    """Return what ``auto`` means on a device: bf16 where it computes that faster, else fp32."""
    if precision == "auto":
        return "bf16" if has_fast_bf16(device.type) else "fp32"
    return "bf16" if precision == "bf16" else "fp32"


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a context in which convolutions and products are computed so; ``fp32`` leaves it as it is."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def has_fast_bf16(kind: str) -> bool:
    """Tell whether a kind of device computes bf16 faster than float32."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = cpu_flags()
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})  # the last is ARM's


def cpu_flags() -> frozenset[str]:
    """Return the CPU's features as Linux names them; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()
