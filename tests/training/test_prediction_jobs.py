from pathlib import Path
from types import SimpleNamespace

import pytest

from elektronn_tui.errors import ExperimentError
from elektronn_tui.training import prediction_jobs
from elektronn_tui.training.datasets import DemoData, VolumeData
from elektronn_tui.training.prediction_jobs import free_threads, prediction_offer
from elektronn_tui.training.resources import Resources


def resources(device: str, torch_threads: int, data_threads: int = 1) -> Resources:
    return Resources(device, "fp32", "channels_last", torch_threads, data_threads, {})


@pytest.mark.parametrize(
    ("cores", "of_training", "threads"),
    [
        (2, resources("cpu", 2), 1),
        (8, resources("cpu", 8), 1),
        (8, resources("cpu", 5), 3),
        (8, resources("cuda", 8, data_threads=2), 5),
    ],
)
def test_a_job_gets_the_cores_that_training_leaves(monkeypatch, cores, of_training, threads):
    monkeypatch.setattr(prediction_jobs, "usable_cores", lambda: cores)
    assert free_threads(of_training) == threads


def offer_of(data, *, averaged=0):
    session = SimpleNamespace(run_dir=Path("/runs/one"), name="one")
    updater = SimpleNamespace(averaging=SimpleNamespace(count=averaged))
    trainer = SimpleNamespace(session=session, step=7, updater=updater, experiment=SimpleNamespace(data=data))
    return prediction_offer(trainer)


@pytest.mark.parametrize(
    ("data", "volume"),
    [
        (VolumeData(path="/a.h5", target="labels"), "/a.h5:raw"),
        (VolumeData(path="/a.tif", raw_key=None, label_key="/b.tif", target="labels"), "/a.tif"),
        (VolumeData(volumes=[("/c.h5:em", "/c.h5:ids")], target="labels"), "/c.h5:em"),
        (DemoData(), ""),
    ],
)
def test_the_form_begins_with_the_volume_that_is_trained_on(data, volume):
    found = {option.name: option.default for option in offer_of(data).options()}
    assert (found["input"], found["output"]) == (volume, "/runs/one/prediction-7.h5")


@pytest.mark.parametrize("averaged", [0, 3])
def test_what_the_form_gives_is_what_the_command_takes(averaged):
    offer = offer_of(VolumeData(path="/a.h5", target="labels"), averaged=averaged)
    options = offer.options()
    assert ("weights" in [option.name for option in options]) == bool(averaged)
    values = {"text": "/a.h5:raw", "bool": True}
    offer.check([word for option in options for word in option.arguments(values.get(option.type, option.default))])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["in.h5"], "the following arguments are required: OUTPUT"),
        (["in.h5", "out.h5", "--colour"], "unrecognized arguments: --colour"),
        (["in.h5", "out.h5", "--weights", "best"], "invalid choice"),
    ],
)
def test_wrong_arguments_are_refused(arguments, words):
    with pytest.raises(ExperimentError, match=words):
        offer_of(DemoData()).check(arguments)


def test_the_average_is_refused_where_there_is_none(tmp_path):
    with pytest.raises(ExperimentError, match="there is no average"):
        offer_of(DemoData()).make(tmp_path, ["in.h5", "out.h5", "--weights", "averaged"])
