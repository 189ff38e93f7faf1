"""``elektronn history SESSION [METRIC...]``: show a session's metrics, as numbers, CSV or a plot."""

from __future__ import annotations

import argparse
import csv
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import DONE
from .output import add_json, print_json, print_line, print_table, warn
from .session import add_session, find_session

if TYPE_CHECKING:
    from elektronn_tui.training.history import HistoryReader


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    parser.add_argument("metrics", nargs="*", metavar="METRIC", help="which ones (default: all)")
    parser.add_argument("--first", type=int, default=0, metavar="STEP", help="from this step on")
    parser.add_argument("--last", type=int, metavar="STEP", help="up to this step")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--csv", action="store_true", help="every point: metric,step,time,value")
    forms.add_argument("--plot", action="store_true", help="draw the curves")
    add_json(forms)


def run(args: argparse.Namespace) -> int:
    """Show metrics; reads the run's file, so that it works on past runs and never asks the worker."""
    from elektronn_tui.training.history import History

    info = find_session(args.session)
    with History.open_read_only(Path(info.run_dir) / "history.sqlite") as history:
        names = args.metrics or [metric.name for metric in history.metrics()]
        if not names and not args.json:
            warn("there is no metric yet")
        if args.json:
            series = {name: history.points(name, args.first, args.last) for name in names}
            print_json({name: {"step": s.tolist(), "value": v.tolist()} for name, (s, _, v) in series.items()})
        elif args.csv:
            write_csv(history, names, args.first, args.last)
        elif args.plot:
            print_line(plotted(history, names, args.first, args.last))
        else:
            summarise(history, names, args.first, args.last)
    return DONE


def write_csv(history: HistoryReader, names: Sequence[str], first: int, last: int | None) -> None:
    """Write every point; NaN is an empty field."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("metric", "step", "time", "value"))
    for name in names:
        steps, times, values = history.points(name, first, last)
        for step, time, value in zip(steps.tolist(), times.tolist(), values.tolist(), strict=True):
            writer.writerow((name, step, f"{time:.3f}", "" if math.isnan(value) else f"{value:.9g}"))


def summarise(history: HistoryReader, names: Sequence[str], first: int, last: int | None) -> None:
    """Print a line a metric: how many points, its range, where it stands."""
    rows = []
    for name in names:
        _, _, values = history.points(name, first, last)
        finite = values[values == values]
        ends = (finite.min(), finite.max(), finite[-1]) if len(finite) else (math.nan,) * 3
        rows.append((name, str(len(values)), *(f"{value:.6g}" for value in ends)))
    print_table(rows, ("METRIC", "POINTS", "MINIMUM", "MAXIMUM", "NEWEST"))


def plotted(history: HistoryReader, names: Sequence[str], first: int, last: int | None) -> str:
    """Return the curves drawn one above the other, as wide as the terminal."""
    import plotext

    columns = shutil.get_terminal_size((100, 30)).columns
    pictures = []
    for name in names:
        curve = history.curve(name, first, last, width=2 * columns)
        known = curve.mean == curve.mean
        if not known.any():
            continue
        figure = plotext.figure
        figure.clear()
        signal = figure.signal(curve.step[known].tolist(), curve.mean[known].tolist(), marker="braille")
        figure.draw(signal.lines())
        figure.title(name)
        figure.label("step", axis="x")
        figure.plot_size(columns, 16)
        pictures.append(figure.build().string(colorless=not sys.stdout.isatty()))
    return "\n".join(pictures)
