"""What clipping, multipliers and averages cost: CPU time of an update of `membranes`, against torch's optimiser alone.

The parts take turns. Times are of one thread, as percent of a whole step (forward, backward, update) of a batch of one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, median, options, verdict

GOAL, GOAL_OFF = 2.0, 0.2  # percent of a step
AVERAGING = {"ema_decay": 0.999, "swa_from": 0, "swa_every": 1}
FEATURES = {
    "off": {},
    "clip_norm": {"clip_norm": 1.0},
    "clip_value": {"clip_value": 1.0},
    "ema": {"averaging": "ema", **AVERAGING},
    "swa": {"averaging": "swa", **AVERAGING},
    "lr_scales": {"lr_scales": {"*.b": 2.0, "conv*": 0.5, "logits": 1.0}},
}


def benchmark() -> int:
    """Time a whole step, a bare update, and updates with one feature each."""
    import torch

    from elektronn_tui.models.zoo import membranes
    from elektronn_tui.training.hyperparameters import Optimiser
    from elektronn_tui.training.updating import Updater

    args = options(__doc__, rounds=20)
    rounds = 5 if args.quick else args.rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = membranes.create_model().to(memory_format=torch.channels_last_3d).train()
    raw = torch.rand(model.input_node.shape.shape)
    target = model.target_node
    assert target is not None
    assert model.loss_node is not None
    loss_node = model.loss_node
    feeds = {model.input_node.name: raw, target.name: torch.randint(0, 2, target.shape.shape)}

    def forward_and_backward() -> None:
        model.compute([loss_node], feeds)[0].backward()

    forward_and_backward()
    settings = Optimiser("AdamW", lr=1e-6, weight_decay=1e-4)
    bare = torch.optim.AdamW(model.module.parameters(), lr=1e-6, weight_decay=1e-4)
    updaters = {name: Updater(model, settings, **more) for name, more in FEATURES.items()}  # type: ignore[arg-type]
    gradients = [(p, p.grad) for p in model.module.parameters()]

    def updated(name: str) -> None:
        if name == "bare":
            bare.zero_grad(set_to_none=True)
        else:
            updaters[name].begin()
        for parameter, gradient in gradients:
            parameter.grad = gradient
        if name == "bare":
            bare.step()
        else:
            updaters[name].step(1)

    times: dict[str, list[float]] = {name: [] for name in ("bare", *FEATURES)}
    for _ in range(rounds + 1):
        for name, values in times.items():
            values.append(measured(lambda name=name: updated(name), 10))  # type: ignore[misc]
    step = 1e6 * median([measured(forward_and_backward, 1) / 1e6 for _ in range(3)])
    update = median(times["bare"][1:])
    emit("forward and backward", step / 1000, "ms")
    emit("update by torch alone", update, "µs")
    percents = {}
    for name in FEATURES:
        extra = median([a - b for a, b in zip(times[name][1:], times["bare"][1:], strict=True)])
        percents[name] = 100 * extra / (step + update)
        emit(name, extra, "µs", percent=round(percents[name], 3))
    met = max(percents.values()) < GOAL and percents["off"] < GOAL_OFF
    return verdict("update_cost", GOAL, met=met, value=max(percents.values()), off=percents["off"])


def measured(act: Callable[[], object], times: int) -> float:
    """Return the microseconds of this thread's CPU time that one of several calls took."""
    begin = time.thread_time()
    for _ in range(times):
        act()
    return 1e6 * (time.thread_time() - begin) / times


if __name__ == "__main__":
    main(benchmark)
