"""A training step of neuro3d_lite and unet3d_lite against the same layers in plain torch, and against other U-Nets.

A step is forward, loss, backward and Adam. The plain network has equal weights, memory format (channels-last) and
precision, and the loss that a user of torch would write, ``F.cross_entropy`` of the scores in float32: the same values
as our Softmax, MultinoulliNLL and AggregateLoss, in fewer passes. Contenders take turns on one thread; figures are CPU
time, and ratios are medians over the turns. Other U-Nets have about as many parameters and get the same input; they
pad, so more voxels come out. With --quick, bf16 is left out where the machine has no hardware for it.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import torch
import torch.nn.functional as F
from benchmarking import emit, main, median, options, rounded, spread, verdict
from torch import nn

from elektronn_tui.models import Model
from elektronn_tui.models.precision import has_fast_bf16

GOAL = 0.98
NETWORKS = {
    # Whole patches, and for --quick ones that a slow machine steps through often enough to compare.
    "neuro3d_lite": ((1, 1, 11, 155, 155), (1, 1, 7, 107, 107)),
    "unet3d_lite": ((1, 1, 22, 140, 140), (1, 1, 16, 92, 92)),
}
PRECISIONS = ("fp32", "bf16")
Step = Callable[[], float]


class PlainNeuro3dLite(nn.Sequential):
    """The layers of neuro3d_lite."""

    ROWS = (
        (1, 20, (1, 4, 4), (1, 2, 2)),
        (20, 40, (3, 3, 3), (1, 2, 2)),
        (40, 150, (2, 4, 4), (2, 1, 1)),
        (150, 200, (1, 3, 3), None),
        (200, 200, (1, 3, 3), None),
        (200, 200, (1, 1, 1), None),
    )

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for n_in, n_out, kernel, pool in self.ROWS:
            layers.append(nn.Conv3d(n_in, n_out, kernel))
            if pool:
                layers.append(nn.MaxPool3d(pool))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers, nn.Conv3d(200, 2, 1))


class PlainUNet3dLite(nn.Module):
    """The layers of unet3d_lite."""

    def __init__(self) -> None:
        super().__init__()
        flat, full = (1, 3, 3), (3, 3, 3)
        self.down = nn.ModuleList(
            pair(a, b, kernel) for a, b, kernel in ((1, 32, flat), (32, 64, flat), (64, 128, flat), (128, 256, full))
        )
        rows = ((256, 512, 128, 256, flat), (256, 256, 64, 128, full), (128, 128, 32, 64, full))
        self.enlarge = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose3d(a, b, (1, 2, 2), (1, 2, 2)), nn.ReLU(inplace=True)) for a, b, *_ in rows
        )
        self.up = nn.ModuleList(pair(b + skip, out, kernel) for _, b, skip, out, kernel in rows)
        self.scores = nn.Conv3d(64, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, 1, z, y, x) to scores (b, 2, ...)."""
        kept = []
        for i, level in enumerate(self.down):
            x = level(x if i == 0 else F.max_pool3d(x, (1, 2, 2)))
            kept.append(x)
        for enlarge, level, skip in zip(self.enlarge, self.up, reversed(kept[:-1]), strict=True):
            x = enlarge(x)
            cut = [(n - m) // 2 for n, m in zip(skip.shape[2:], x.shape[2:], strict=True)]
            skip = skip[(..., *(slice(c, n - c) for c, n in zip(cut, skip.shape[2:], strict=True)))]
            x = level(torch.cat((x, skip), 1))
        return self.scores(x)


PLAIN: dict[str, type[nn.Module]] = {"neuro3d_lite": PlainNeuro3dLite, "unet3d_lite": PlainUNet3dLite}


def pair(n_in: int, n_out: int, kernel: tuple[int, int, int]) -> nn.Sequential:
    """Return two convolutions."""
    return nn.Sequential(
        nn.Conv3d(n_in, n_out, kernel), nn.ReLU(inplace=True), nn.Conv3d(n_out, n_out, kernel), nn.ReLU(inplace=True)
    )


def modules_with_weights(module: nn.Module) -> Iterator[nn.Conv3d | nn.ConvTranspose3d]:
    """Yield the layers in the order in which they are computed."""
    if isinstance(module, PlainUNet3dLite):
        for level in module.down:
            yield from modules_with_weights(level)
        for enlarge, level in zip(module.enlarge, module.up, strict=True):
            yield from modules_with_weights(enlarge)
            yield from modules_with_weights(level)
        yield module.scores
    else:
        yield from (m for m in module.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d))


def plain_copy(name: str, model: Model) -> nn.Module:
    """Return the plain network with the weights of `model`."""
    plain = PLAIN[name]()
    nodes = [node for node in model.nodes.values() if "w" in node.params]
    with torch.no_grad():
        for node, layer in zip(nodes, modules_with_weights(plain), strict=True):
            w = node.w.transpose(0, 1) if isinstance(layer, nn.ConvTranspose3d) else node.w
            layer.weight.copy_(w)
            assert layer.bias is not None
            layer.bias.copy_(node.b)
    return plain


def our_step(model: Model, raw: torch.Tensor, target: torch.Tensor, precision: str) -> Step:
    """Return a training step of a model."""
    assert model.loss_node is not None
    model.to(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.Adam(model.module.parameters(), 1e-4)
    feeds, nodes = {"raw": raw, "target": target}, [model.loss_node]

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model.compute(nodes, feeds)[0]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return float(loss.detach())

    return step


def plain_step(module: nn.Module, raw: torch.Tensor, target: torch.Tensor, precision: str) -> Step:
    """Return a training step of a plain module."""
    module.to(memory_format=torch.channels_last_3d)
    raw = raw.to(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.Adam(module.parameters(), 1e-4)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            scores = module(raw)
            if isinstance(scores, list | tuple):
                scores = scores[0]
        loss = F.cross_entropy(scores.float(), target[:, 0])
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return loss.item()

    return step


def monai_unet() -> nn.Module:
    """Return MONAI's BasicUNet with about as many parameters as unet3d_lite."""
    from monai.networks.nets import BasicUNet

    return BasicUNet(spatial_dims=3, in_channels=1, out_channels=2, features=(38, 38, 75, 149, 298, 38))


def elektronn3_unet() -> nn.Module:
    """Return elektronn3's UNet with about as many parameters as unet3d_lite."""
    from elektronn3.models.unet import UNet

    return UNet(in_channels=1, out_channels=2, n_blocks=4, start_filts=46, planar_blocks=(0, 1, 2), dim=3)


PEERS = {"MONAI BasicUNet": monai_unet, "elektronn3 UNet": elektronn3_unet}


def params(module: nn.Module) -> int:
    """Return the number of trainable numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def contenders(name: str, shape: tuple[int, ...], precision: str) -> tuple[dict[str, Step], dict[str, int]]:
    """Make the steps to compare; ours and the plain one start with equal weights."""
    torch.manual_seed(0)
    model: Model = importlib.import_module(f"elektronn_tui.models.zoo.{name}").create_model()
    plain = plain_copy(name, model)
    raw = torch.rand(shape)
    with torch.no_grad():
        scores = plain(raw)
        ours = model.compute([model.prediction_node], {"raw": raw})[0]
        torch.testing.assert_close(ours, torch.softmax(scores, 1), rtol=1e-4, atol=1e-5)
    target = torch.randint(0, 2, (shape[0], 1, *scores.shape[2:]))
    steps = {"elektronn": our_step(model, raw, target, precision), "plain": plain_step(plain, raw, target, precision)}
    sizes = {"elektronn": model.param_count, "plain": params(plain)}
    if name == "unet3d_lite":
        for peer, make in PEERS.items():
            try:
                module = make()
            except ImportError as error:
                print(json.dumps({"name": peer, "left_out": f"not installed ({error.name})"}), flush=True)
                continue
            with torch.no_grad():
                size = module(raw).shape[2:]
            steps[peer] = plain_step(module, raw, torch.randint(0, 2, (shape[0], 1, *size)), precision)
            sizes[peer] = params(module)
    return steps, sizes


def measure(steps: dict[str, Step], seconds: float) -> dict[str, list[float]]:
    """Let the contenders take turns for `seconds`; return CPU seconds a step, one figure a turn.

    Other U-Nets are far slower and so take part in every fourth turn only.
    """
    for name, step in steps.items():
        if name not in PEERS:
            step()
    turns: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(turns[order[0]]) < 2:
        turn = len(turns["elektronn"])
        order.reverse()
        for name in order:
            if name in PEERS and turn % 4:
                continue
            start = time.process_time()
            steps[name]()
            turns[name].append(time.process_time() - start)
    return turns


def benchmark() -> int:
    """Compare network by network, precision by precision."""
    args = options(__doc__, seconds=400.0, networks=",".join(NETWORKS), precisions=",".join(PRECISIONS))
    torch.set_num_threads(1)
    networks, precisions = args.networks.split(","), args.precisions.split(",")
    if args.quick and not has_fast_bf16("cpu"):
        print(json.dumps({"name": "bf16", "left_out": "this machine has no hardware for it"}), flush=True)
        precisions = ["fp32"]
    # Building and first steps take their time too, so that less than 50 s is left for turns.
    seconds = (20 if args.quick else args.seconds) / (len(networks) * len(precisions))
    against_plain, against_peers = {}, {}
    for name in networks:
        shape = NETWORKS[name][args.quick]
        for precision in precisions:
            steps, sizes = contenders(name, shape, precision)
            turns = measure(steps, seconds)
            for who, times in turns.items():
                ours = turns["elektronn"][:: 4 if who in PEERS else 1]
                ratio = median([t / o for t, o in zip(times, ours, strict=True)])
                emit(
                    f"{name} {precision} {who}",
                    1000 * median(times),
                    "ms a step",
                    params=sizes[who],
                    input="x".join(map(str, shape)),
                    elektronn_is_faster=rounded(ratio),
                    **spread([1000 * t for t in times]),
                )
                if who == "plain":
                    against_plain[f"{name} {precision}"] = rounded(ratio)
                elif who != "elektronn":
                    against_peers[f"{who} {precision}"] = rounded(ratio)
    lowest = min(against_plain.values())
    met = lowest >= GOAL and all(ratio > 1 for ratio in against_peers.values())
    return verdict("train_step", GOAL, met=met, ratio=lowest, plain=against_plain, peers=against_peers)


if __name__ == "__main__":
    main(benchmark)
