"""``elektronn profile``: what each node of a network costs, and its fastest settings within memory."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import ModelError

from . import DONE, USAGE
from .output import add_json, print_json, print_line, print_table, warn

if TYPE_CHECKING:
    from elektronn_tui.models.profiling import NodeProfile
    from elektronn_tui.models.setting_search import Trial

GIB = 2**30
BAR = 16
WIDE = 110  # columns for all that there is to say of a node
WHY = 60  # columns for a reason
BUSY = 30.0  # percent of all cores
COLUMNS = ("name", "kind", "forward", "backward", "bytes", "parameter_bytes", "cost", "share")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "model", metavar="MODEL", help="an experiment (file, or name in the zoo), a model file, or a run"
    )
    parser.add_argument(
        "--search",
        choices=("both", "prediction", "training", "none"),
        default="both",
        help="for what the fastest settings are looked for (default: both)",
    )
    parser.add_argument(
        "--memory", type=float, metavar="GIB", help="that a setting may take (default: half of what is free)"
    )
    parser.add_argument("--time", type=float, default=50.0, metavar="SECONDS", help="for all of it (default: 50)")
    parser.add_argument("--threads", type=int, metavar="N", help="of torch (default: all cores)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the nodes as a table")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Profile."""
    if args.time <= 0 or (args.memory is not None and args.memory <= 0) or (args.threads or 1) < 1:
        warn("--time, --memory and --threads take numbers above 0")
        return USAGE
    begin = time.monotonic()
    import psutil
    import torch

    from elektronn_tui.models.allocation import keep_freed_memory
    from elektronn_tui.models.footprint import free_memory
    from elektronn_tui.models.precision import resolved
    from elektronn_tui.models.profiling import profile_nodes
    from elektronn_tui.models.setting_search import search_settings
    from elektronn_tui.training.opening import open_model
    from elektronn_tui.training.resources import usable_cores

    if psutil.cpu_percent(interval=0.2) > BUSY:
        warn("other processes keep this machine busy; what is measured may be far from what it can do")
    torch.set_num_threads(args.threads or usable_cores())
    keep_freed_memory()
    model = open_model(args.model)
    model.to("cuda" if torch.cuda.is_available() else "cpu", memory_format=torch.channels_last_3d)
    precision = resolved("auto", model.device)
    shown = _Shown(args.json)
    trials: list[Trial] = []
    nodes: list[NodeProfile] = []
    try:
        shown.show("measuring the nodes")
        nodes = profile_nodes(model, precision=precision, seconds=args.time / 5)
        purposes = [args.search] if args.search != "both" else ["prediction", "training"]
        memory = free_memory(model.device) // 2 if args.memory is None else round(args.memory * GIB)
        for number, purpose in enumerate(purposes if args.search != "none" else ()):
            left = args.time - (time.monotonic() - begin)
            trials += _searched(search_settings, model, purpose, memory, left / (len(purposes) - number), shown)
    except KeyboardInterrupt:
        shown.clear()
        warn("interrupted; this is what there is")
    shown.clear()
    if args.csv is not None:
        _write(args.csv, nodes)
    if args.json:
        print_json({"precision": precision, "nodes": [asdict(n) for n in nodes], "trials": [asdict(t) for t in trials]})
        return DONE
    print_line(
        f"{model.name}, {torch.get_num_threads()} threads, {model.device.type}; nodes in {precision}, channels-last"
    )
    print_line()
    _print_nodes(nodes)
    for purpose in ("prediction", "training"):
        _print_trials(args.model, purpose, [trial for trial in trials if trial.purpose == purpose])
    return DONE


def _searched(search: Any, model: Any, purpose: str, memory: int, seconds: float, shown: _Shown) -> list[Trial]:
    def tell(trial: Trial) -> None:
        shown.show(f"{purpose}: {_setting(trial)}  {trial.skipped or _rate(trial)}")

    try:
        found: list[Trial] = search(model, purpose, memory=memory, seconds=max(seconds, 1.0), progress=tell)
    except ModelError as error:
        shown.clear()
        warn(f"{purpose}: {error}")
        return []
    return found


def _print_nodes(nodes: list[NodeProfile]) -> None:
    narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < WIDE
    rows = [
        (
            node.name,
            node.kind,
            f"{1000 * node.forward:.2f}",
            f"{1000 * node.backward:.2f}",
            f"{100 * node.share:.0f} %".rjust(5) + ("" if narrow else " " + "▇" * round(BAR * node.share)),
            _bytes(node.bytes),
            *(() if narrow else (_bytes(node.parameter_bytes) if node.parameter_bytes else "",)),
            f"{2e-9 * node.cost / node.forward:.0f}" if node.cost and node.forward > 1e-4 else "",
        )
        for node in nodes
    ]
    forward, backward = sum(n.forward for n in nodes), sum(n.backward for n in nodes)
    rows.append(("all", "", f"{1000 * forward:.2f}", f"{1000 * backward:.2f}", *[""] * (3 if narrow else 4)))
    parameters = () if narrow else ("parameters",)
    print_table(rows, ("node", "kind", "forward ms", "backward ms", "share", "values", *parameters, "GFLOP/s"))


def _print_trials(name: str, purpose: str, trials: list[Trial]) -> None:
    if not trials:
        return
    print_line()
    print_line(f"{purpose}, the fastest first:")
    rows = [
        (
            "×".join(map(str, trial.setting.patch)) or "-",
            str(trial.setting.batch),
            trial.setting.precision,
            trial.setting.memory_format.replace("_", "-"),
            "" if trial.skipped else f"{1000 * trial.seconds:.1f}",
            _why(trial) if trial.skipped else _rate(trial),
            _bytes(trial.bytes) if trial.bytes else "",
        )
        for trial in _telling(trials)
    ]
    print_table(rows, ("patch", "batch", "precision", "format", "ms", "output", "memory"))
    best = trials[0].setting
    print_line()
    if purpose == "prediction":
        patch = ",".join(map(str, best.patch))
        batch = f" --batch {best.batch}" if best.batch > 1 else ""
        how = f"--precision {best.precision} --memory-format {best.memory_format}"
        print_line(f"elektronn predict MODEL INPUT OUTPUT --patch {patch}{batch} {how}")
    else:
        settings = {"batch_size": best.batch, "precision": best.precision, "memory_format": best.memory_format}
        print_line(f"elektronn train {name} {' '.join(f'--set {k}={v}' for k, v in settings.items())}")
        if best.patch:
            print_line(f"with an input of {'×'.join(map(str, best.patch))} in its file")


def _telling(trials: list[Trial]) -> list[Trial]:
    """Return the trials but for those that were skipped for the same reason as a smaller one."""
    skipped: dict[str, Trial] = {}
    for trial in trials:
        first = skipped.get(trial.skipped)
        if trial.skipped and (first is None or trial.bytes < first.bytes):
            skipped[trial.skipped] = trial
    return [trial for trial in trials if not trial.skipped or skipped[trial.skipped] is trial]


def _why(trial: Trial) -> str:
    return trial.skipped if len(trial.skipped) <= WHY else trial.skipped[: WHY - 1] + "…"


def _setting(trial: Trial) -> str:
    setting = trial.setting
    return f"{'×'.join(map(str, setting.patch))} batch {setting.batch} {setting.precision} {setting.memory_format}"


def _rate(trial: Trial) -> str:
    unit = "voxel" if trial.setting.patch else "example"
    for factor, prefix in ((1e6, " M"), (1e3, " k")):
        if trial.rate >= factor:
            return f"{trial.rate / factor:.3g}{prefix}{unit}/s"
    return f"{trial.rate:.3g} {unit}/s"


def _bytes(number: int) -> str:
    return f"{number / GIB:.2f} GiB" if number >= GIB / 2 else f"{number / 2**20:.1f} MiB"


def _write(path: Path, nodes: list[NodeProfile]) -> None:
    lines = [",".join(COLUMNS), *(",".join(str(asdict(node)[name]) for name in COLUMNS) for node in nodes)]
    path.write_text("\n".join(lines) + "\n")


class _Shown:
    """What is measured now, on a terminal."""

    def __init__(self, as_json: bool) -> None:
        self._terminal = sys.stderr.isatty() and not as_json

    def show(self, text: str) -> None:
        """Show it."""
        if self._terminal:
            sys.stderr.write(f"\r{text[:100]}\x1b[K")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take it away."""
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
