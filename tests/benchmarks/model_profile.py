"""`elektronn profile unet3d`: seconds from the command to its last line, and whether it found something to say.

The command times the nodes of the network, which has 19 million parameters, and searches settings for prediction and
training. `value` is the seconds of the whole command.

    python tests/benchmarks/model_profile.py [--quick]

(`--quick` takes unet3d_litelite, and gives the command 30 seconds.)
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, options, private_home, verdict
from sessions import ELEKTRONN

GOAL = 60.0


def benchmark() -> int:
    args = options(__doc__)
    command = ["unet3d_litelite", "--time", "30"] if args.quick else ["unet3d"]
    with private_home():
        begin = time.perf_counter()
        done = subprocess.run([ELEKTRONN, "profile", *command, "--json"], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - begin
    found = json.loads(done.stdout)
    forward = sum(node["forward"] for node in found["nodes"])
    backward = sum(node["backward"] for node in found["nodes"])
    emit("nodes", forward + backward, "s", forward=round(forward, 4), backward=round(backward, 4))
    for purpose in ("prediction", "training"):
        trials = [t for t in found["trials"] if t["purpose"] == purpose and not t["skipped"]]
        if trials:
            emit(f"{purpose}, the fastest of {len(trials)}", trials[0]["rate"], "voxels/s", **trials[0]["setting"])
    return verdict("model_profile", GOAL, value=seconds, met=seconds < GOAL)


if __name__ == "__main__":
    main(benchmark)
