"""The drawing of a network: seconds for `unet3d` and for a network of 300 nodes, as SVG, HTML and text.

Graphviz's `dot`, where it is installed, lays out the same graphs; its time is that of the whole program. `value` is the
slowest drawing of `unet3d`.

    python tests/benchmarks/graph.py [--quick]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, median, options, spread, verdict

from elektronn_tui.models import Add, Conv, Input, Model
from elektronn_tui.models.drawing import FORMATS
from elektronn_tui.models.drawing_facts import facts_of
from elektronn_tui.training.opening import open_model

GOAL = 1.0


def large() -> Model:
    """Return a chain of 300 nodes whose every fourth one takes a value from far above, too."""
    nodes: list[Any] = [Input((1, 2, 8, 8), "b,f,y,x", name="raw")]
    while len(nodes) < 300:
        far = nodes[max(0, len(nodes) - 40)]
        nodes.append(Add(nodes[-1], far) if len(nodes) % 4 == 0 else Conv(nodes[-1], 2, (1, 1)))
    return Model(nodes[0], prediction_node=nodes[-1], name="large")


def seconds(run: Callable[[], object], turns: int) -> list[float]:
    found = []
    for _ in range(turns):
        begin = time.perf_counter()
        run()
        found.append(time.perf_counter() - begin)
    return found


def benchmark() -> int:
    args = options(__doc__)
    turns = 3 if args.quick else 11
    slowest = 0.0
    for model in (open_model("unet3d"), large()):
        for ending, make in FORMATS.items():
            taken = seconds(lambda make=make, model=model: make(facts_of(model)), turns)
            emit(f"{model.name}{ending}", median(taken), "s", **spread(taken))
            slowest = max(slowest, median(taken)) if model.name == "unet3d" else slowest
        if shutil.which("dot"):
            text = FORMATS[".dot"](facts_of(model)).encode()
            graphviz = partial(subprocess.run, ["dot", "-Tsvg"], input=text, capture_output=True, check=True)
            taken = seconds(graphviz, turns)
            emit(f"{model.name}: Graphviz dot", median(taken), "s", **spread(taken))
    if not shutil.which("dot"):
        print(json.dumps({"name": "Graphviz dot", "left_out": "it is not installed"}))
    return verdict("graph", GOAL, value=slowest, met=slowest < GOAL)


if __name__ == "__main__":
    main(benchmark)
