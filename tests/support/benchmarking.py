"""What every benchmark shares: its options, a JSON line a contender, and the verdict as the last line."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def options(description: str | None, **extra: Any) -> argparse.Namespace:
    """Parse ``--quick`` and return what was given; `extra` are defaults of further ``--name VALUE`` options."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="end within 50 seconds, with wider error bars")
    for name, default in extra.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser.parse_args()


def emit(name: str, value: float, unit: str, **more: Any) -> None:
    """Print a contender's line."""
    print(json.dumps({"name": name, "value": rounded(value), "unit": unit, **more}), flush=True)


def verdict(
    key: str, goal: float, *, met: bool, value: float | None = None, ratio: float | None = None, **more: Any
) -> int:
    """Print the last line of a benchmark and return an exit code: 0, because a missed goal is a finding, no failure."""
    figure = {"value": rounded(value)} if value is not None else {"ratio": rounded(ratio or 0.0)}
    more = {name: rounded(value) if isinstance(value, float) else value for name, value in more.items()}
    print(json.dumps({"key": key, **figure, "goal": goal, "met": met, **more}), flush=True)
    return 0


def rounded(value: float) -> float:
    """Return a figure with four significant digits."""
    return float(f"{value:.4g}")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return minimum, maximum and number of the samples that a median was taken of."""
    return {"min": rounded(min(values)), "max": rounded(max(values)), "n": len(values)}


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


@contextmanager
def private_home() -> Iterator[Path]:
    """Give sessions a home and a socket directory of their own for as long as the benchmark runs."""
    with tempfile.TemporaryDirectory(prefix="elektronn-bench-") as folder:
        home, runtime = Path(folder) / "home", Path(folder) / "run"
        for directory in (home, runtime):
            directory.mkdir(mode=0o700)
        os.environ |= {"ELEKTRONN_HOME": str(home), "ELEKTRONN_RUNTIME": str(runtime)}
        yield home


def main(benchmark: Callable[[], int]) -> None:
    """Run a benchmark as a script."""
    sys.exit(benchmark())
