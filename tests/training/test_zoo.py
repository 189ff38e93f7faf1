"""The experiments of the zoo: what their networks are, and that their data fit them."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from elektronn_tui.data import Prefetcher
from elektronn_tui.training.batches import Feeder
from elektronn_tui.training.examples import examples
from elektronn_tui.training.experiment import load_experiment

# Output (z, y, x), field of view or what is lost to the border, strides, offsets, parameters.
DENSE = {
    "neuro3d": ((5, 21, 21), (15, 105, 105), (2, 4, 4), (7, 52, 52), 2_756_042),
    "neuro3d_lite": ((4, 30, 30), (5, 39, 39), (2, 4, 4), (2, 19, 19), 885_132),
    "unet3d": ((28, 44, 44), (88, 88, 88), (1, 1, 1), (44, 44, 44), 19_069_058),
    "unet3d_lite": ((10, 52, 52), (12, 88, 88), (1, 1, 1), (6, 44, 44), 7_794_786),
    "unet3d_litelite": ((10, 36, 36), (12, 104, 104), (1, 1, 1), (6, 52, 52), 352_207),
    "unet2d": ((100, 100), (184, 184), (1, 1), (92, 92), 49_533_770),
    "affinities": ((16, 96, 96), (0, 0, 0), (1, 1, 1), (0, 0, 0), 130_968),
    "malis": ((16, 96, 96), (0, 0, 0), (1, 1, 1), (0, 0, 0), 130_890),
}
OTHERS = {"mnist": ((None, 10), 142_366), "vae": ((None, 1, 28, 28), 317_552)}
# Settings with which an example makes a batch within a second or two.
SMALL = {
    "mnist": ["data.digits=40", "batch_size=4"],
    "vae": ["data.digits=40", "batch_size=4"],
    "affinities": ["data.demo_shape=24,112,112", "data.valid_slices=0"],
    "membranes": ["data.shape=24,100,100", "data.valid_slices=0"],
    "unet3d_litelite": ["data.demo_shape=24,150,150", "data.valid_slices=0"],
}


@pytest.mark.parametrize("name", DENSE)
def test_dense_networks(name: str) -> None:
    output, fov, strides, offsets, parameters = DENSE[name]
    model = load_experiment(name).model()  # type: ignore[operator]
    shape = model.prediction_node.shape
    assert shape.spatial_shape == output
    assert (shape.fov, shape.strides, shape.offsets) == (fov, strides, offsets)
    assert model.target_node.shape.spatial_shape == output
    assert model.target_node.shape.offsets == offsets
    assert model.param_count == parameters


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks(name: str) -> None:
    model = load_experiment(name).model()  # type: ignore[operator]
    assert (model.prediction_node.shape.shape, model.param_count) == OTHERS[name]


def test_crops_and_factors_of_the_unets() -> None:
    crops = {
        "unet3d": [(4, 4, 4), (16, 16, 16), (40, 40, 40)],
        "unet3d_lite": [(2, 4, 4), (2, 16, 16), (4, 40, 40)],
        "unet3d_litelite": [(2, 6, 6), (2, 20, 20), (4, 48, 48)],
    }
    for name, wanted in crops.items():
        model = load_experiment(name).model()  # type: ignore[operator]
        assert [node.crop for node in model.nodes.values() if type(node).__name__ == "Crop"] == wanted
    assert model["upconv"].pool_shape == (1, 4, 4)


def test_a_narrow_unet2d_has_three_heads_that_are_learnt_together() -> None:
    create = runpy.run_path(str(examples()["unet2d"].path))["create_model"]
    model = create(width=2)
    torch.manual_seed(0)
    raw = torch.rand(1, 1, 284, 284)
    target = torch.stack([torch.randint(-1, n, (1, 100, 100)) for n in (3, 4, 3)], 1)
    with torch.no_grad():
        numbers = model.compute([model.loss_node, *model.debug_outputs], {"raw": raw, "target": target})
    losses = [float(n) for n in numbers]
    # A third of what is unknown does not count: about ln 3, ln 4, ln 3 for a network that knows nothing.
    assert losses[1:4] == pytest.approx(np.log([3, 4, 3]), abs=0.5)
    assert losses[0] == pytest.approx(np.dot(losses[1:4], [2.154, 0.423, 0.423]) / 3, rel=1e-5)
    parts = model.predict(raw.numpy())
    for part in (parts[:, :3], parts[:, 3:7], parts[:, 7:]):
        np.testing.assert_allclose(part.sum(1), 1, rtol=1e-5)


@pytest.fixture(scope="module")
def cube(tmp_path_factory) -> Path:  # type: ignore[no-untyped-def]
    """A volume of the size that people have labelled, with ids of blocks."""
    path = tmp_path_factory.mktemp("cube") / "cube.h5"
    z, y, x = np.ogrid[:170, :250, :250]
    ids = (1 + z // 20 + 9 * (y // 20) + 117 * (x // 200)).astype(np.uint8)
    with h5py.File(path, "w") as file:
        file["raw"], file["labels"] = ids, ids
    return path


@pytest.mark.parametrize("name", sorted({*DENSE, "fib25"} - {"unet2d"}))
def test_a_volume_of_ones_own_leaves_enough_to_train_on_and_to_validate(name, cube, make_session, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from elektronn_tui.training.runner import build

    monkeypatch.setattr(Prefetcher, "start", lambda *_: None)
    own = [f"data.path={cube}", "data.label_key=labels", "validate_patches=1"]
    trainer = build(load_experiment(name, [*own, "preview_every=0", "data_threads=0"]), make_session())
    assert trainer.prefetcher.get(1)["target"].shape[1:] == trainer.model.target_node.shape[1:]
    assert trainer.validation is not None


@pytest.mark.parametrize("name", SMALL)
def test_the_data_of_an_example_fit_its_network(name: str, make_session, monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from elektronn_tui.training.runner import build

    monkeypatch.setenv("ELEKTRONN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Prefetcher, "start", lambda *_: None)
    off = ["validate_every=0", "preview_every=0", "data_threads=0", "precision=fp32", "torch_threads=1"]
    trainer = build(load_experiment(name, [*SMALL[name], *off]), make_session())
    batch = trainer.prefetcher.get(1)
    feeds = Feeder(trainer.model, torch.device("cpu"))(batch)
    with torch.no_grad():
        (loss,) = trainer.model.compute([trainer.model.loss_node], feeds)
    assert torch.isfinite(loss).all()


def test_every_example_has_a_summary_that_fits_a_line() -> None:
    found = examples()
    assert {*DENSE, *OTHERS, "membranes", "fib25"} <= set(found)
    for example in found.values():
        assert example.summary.endswith("."), example.name
        assert len(example.summary) <= 120


@pytest.mark.parametrize("name", ["neuro3d", "neuro3d_lite", "unet3d", "unet3d_lite", "unet3d_litelite"])
def test_barriers_weigh_more_than_the_rest(name: str) -> None:
    model = load_experiment(name).model()  # type: ignore[operator]
    (loss,) = (node for node in model.nodes.values() if type(node).__name__ == "MultinoulliNLL")
    rest, barrier = loss.class_weights
    share = 0.11 if name == "unet3d" else 0.05  # of the synthetic volume
    # The constant answer with the least loss is then hardly better than a guess.
    assert 0.15 < share * barrier / (share * barrier + (1 - share) * rest) < 0.5


@pytest.mark.parametrize("name", sorted(examples()))
def test_an_example_says_what_it_does_when_it_is_run(name: str) -> None:
    assert (
        examples()[name]
        .path.read_text(encoding="utf-8")
        .endswith('\n\nif __name__ == "__main__":\n    print(experiment.describe())\n')
    )


def test_an_example_can_be_run_as_a_file() -> None:
    path = examples()["mnist"].path
    ran = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=120, cwd=Path(path).parent
    )
    assert ran.returncode == 0, ran.stderr
    assert "142,366" in ran.stdout
    assert "nll_" in ran.stdout
    assert "A test run went through all nodes." in ran.stdout


def test_mnist_reads_a_file_that_is_sorted_by_class(shared_data: Path, make_session) -> None:  # type: ignore[no-untyped-def]
    from elektronn_tui.training.runner import build

    file = shared_data / "mnist5k" / "mnist5k.h5"
    settings = [f"data.path={file}", "steps=40", "validate_every=40", "validate_patches=200", "lr=2e-3"]
    session = make_session()
    build(load_experiment("mnist", [*settings, "torch_threads=1", "data.valid_fraction=0.1"]), session).run()
    assert session.metrics["valid_error"][40] < 0.5


def test_the_perceptron_learns_what_comes_next(make_session) -> None:  # type: ignore[no-untyped-def]
    from elektronn_tui.training.runner import build

    small = ["data.examples=1000", "data.valid_examples=100", "validate_patches=100"]
    session = make_session()
    build(load_experiment("piano", [*small, "steps=60", "validate_every=60", "torch_threads=1"]), session).run()
    assert session.metrics["valid_balanced_error"][60] < 0.4  # 0.5: always the same answer
