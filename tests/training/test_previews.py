import numpy as np
import pytest
from PIL import Image

from elektronn_tui.training.previews import MAX_TILES, write_png
from elektronn_tui.training.runner import build


@pytest.fixture
def trainer(make_session, make_experiment):
    trainer = build(make_experiment(steps=60, batch_size=2), make_session())
    yield trainer
    trainer.prefetcher.close()


def test_a_preview_shows_raw_prediction_and_target_of_one_region(trainer):
    preview = trainer._preview
    lo, hi = np.asarray(preview.region)
    volumes = preview()
    assert list(volumes) == ["raw", "prediction", "target"]
    for volume in volumes.values():
        assert volume.dtype == np.uint8
        assert volume.shape == tuple(hi - lo)
    pair = trainer.experiment.data.open().valid[0]
    np.testing.assert_array_equal(volumes["raw"], pair.raw.read(lo.tolist(), hi.tolist())[0])
    np.testing.assert_array_equal(volumes["target"], pair.target.read(lo.tolist(), hi.tolist())[0] * 255)
    assert len(preview._patches) <= MAX_TILES


def test_what_was_learnt_is_seen_in_the_right_place(trainer):
    trainer.run()
    volumes = trainer._preview()
    right = (volumes["prediction"] > 127) == (volumes["target"] > 127)
    assert right.mean() > 0.8  # the stride of 2 costs a voxel at some borders


def test_previews_leave_the_network_as_it_was(trainer, weights):
    before = weights(trainer.model)
    trainer._preview()
    assert trainer.model.module.training
    for key, value in weights(trainer.model).items():
        np.testing.assert_array_equal(before[key], value)


def test_regions_are_cut_to_the_volume(make_session, make_experiment):
    trainer = build(make_experiment(preview_shape=(99, 999, 999), preview_position=(0, 0, 0)), make_session())
    trainer.prefetcher.close()
    lo, hi = trainer._preview.region
    assert min(lo) >= 0
    assert max(hi) <= 40
    assert (trainer._preview()["prediction"] > 0).all()


def test_a_failing_preview_never_stops_the_training(make_session, make_experiment):
    session = make_session()
    trainer = build(make_experiment(steps=2, preview_every=1), session)

    def broken():
        raise RuntimeError("no memory for that")

    trainer._preview.__class__ = type("Broken", (type(trainer._preview),), {"__call__": lambda self: broken()})
    trainer.run()
    assert trainer.step == 2


def test_pictures_have_one_scale_and_all_volumes(tmp_path):
    volumes = {"raw": np.full((8, 10, 12), 50, np.uint8), "prediction": np.full((8, 10, 12), 200, np.uint8)}
    write_png(tmp_path / "previews" / "p.png", volumes)
    picture = np.asarray(Image.open(tmp_path / "previews" / "p.png"))
    assert picture.shape == (4 * 10 + 3 * 2, 12 + 2 + 12)
    assert picture[0, 0] == 50
    assert picture[0, -1] == 200
