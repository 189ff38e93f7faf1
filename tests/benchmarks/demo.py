"""The demo as a newcomer meets it: from the command to the first frame, to a preview that shows membranes.

A preview shows membranes when thresholding its prediction at one half puts less than 20 % of the voxels of either kind
(mean of both) on the wrong side of the truth.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import numpy as np
from benchmarking import emit, main, options, private_home, verdict
from sessions import ELEKTRONN, end
from terminals import PtyTerminal

from elektronn_tui.session.blocking import BlockingClient
from elektronn_tui.session.errors import RequestRefused
from elektronn_tui.session.protocol import GetPreview, GetStatus
from elektronn_tui.session.registry import sessions

GOAL_PREVIEW, GOAL_ERROR = 60.0, 180.0  # seconds, on two cores


def benchmark() -> int:
    """Start the demo, watch it, and note when what was seen."""
    args = options(__doc__, seconds=GOAL_ERROR)
    limit = 45.0 if args.quick else args.seconds
    seen: dict[str, float | None] = {"preview shows membranes": None, "balanced validation error below 20 %": None}
    error = float("nan")
    with private_home(), PtyTerminal([ELEKTRONN, "tui", "membranes"], columns=120, rows=40) as terminal:
        started = terminal.started
        first_byte = (terminal.wait_for_all([rb"elektronn"]), terminal.chunks[0][0])[1] - started
        first_frame = terminal.wait_for_all([rb"controls", rb"console", rb"membranes"], 60) - started
        first_step = terminal.wait_for_all([rb"running"], 120) - started
        (session,) = sessions()
        with BlockingClient(session.socket, name="benchmark", read_only=True) as client:
            while time.perf_counter() - started < limit and None in seen.values():
                time.sleep(0.5)
                now = time.perf_counter() - started
                if seen["preview shows membranes"] is None and preview_error(client) < 0.2:
                    seen["preview shows membranes"] = now
                metrics = {metric.name: metric.value for metric in client.request(GetStatus()).metrics}
                error = metrics.get("valid_balanced_error") or error
                if seen["balanced validation error below 20 %"] is None and error < 0.2:
                    seen["balanced validation error below 20 %"] = now
        end(session)
    emit("first byte", first_byte, "s")
    emit("first frame", first_frame, "s")
    emit("first step", first_step, "s")
    for what, moment in seen.items():
        emit(what, limit if moment is None else moment, "s", reached=moment is not None)
    emit("balanced validation error at the end", error, "")
    shown = seen["preview shows membranes"]
    learnt = seen["balanced validation error below 20 %"]
    met = shown is not None and shown < GOAL_PREVIEW and learnt is not None and learnt < GOAL_ERROR
    return verdict(
        "demo", GOAL_PREVIEW, met=met, value=limit if shown is None else shown, first_frame=round(first_frame, 2),
        error_below_20=None if learnt is None else round(learnt, 1), goal_error=GOAL_ERROR,
    )  # fmt: skip


def preview_error(client: BlockingClient) -> float:
    """Return the balanced error of the newest preview's middle slice; 1 while there is none."""
    try:
        images = client.request(GetPreview(height=4096, width=4096)).images
    except RequestRefused:
        return 1.0
    pictures = {i.caption: np.frombuffer(i.pixels, np.uint8).reshape(i.height, i.width) > 127 for i in images}
    if not {"prediction", "target"} <= pictures.keys():
        return 1.0
    found, truth = pictures["prediction"], pictures["target"]
    return float(1 - ((found[truth]).mean() + (~found[~truth]).mean()) / 2)


if __name__ == "__main__":
    main(benchmark)
